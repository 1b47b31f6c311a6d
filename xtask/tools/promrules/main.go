// Checks alerts and panels as promtool and Grafana would: `promrules RULES DASHBOARD`. It is what `promtool check rules` calls, without
// the service discovery of every cloud that promtool is linked with.
package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	if err := check(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(rules, dashboard string) error {
	expressions := parser.NewParser(parser.Options{})
	groups, errs := rulefmt.ParseFile(rules, false, model.UTF8Validation, expressions, slog.Default())
	for _, err := range errs {
		return err
	}
	alerts := 0
	for _, group := range groups.Groups {
		alerts += len(group.Rules)
	}
	text, err := os.ReadFile(dashboard)
	if err != nil {
		return err
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		return err
	}
	panels := 0
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			// Grafana's own variable stands for a time.
			if _, err := expressions.ParseExpr(strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")); err != nil {
				return fmt.Errorf("panel %q: %w", panel.Title, err)
			}
			panels++
		}
	}
	fmt.Printf("%d alerts, %d expressions of panels\n", alerts, panels)
	return nil
}
