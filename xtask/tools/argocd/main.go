// The parts of Argo CD that sync and judge, without its web interface, and the cache that they share.
//
//	argocd controller|applicationsets|repo-server FLAGS...
//	argocd cache HOST:PORT
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alicebob/miniredis/v2"
	controller "github.com/argoproj/argo-cd/v3/cmd/argocd-application-controller/commands"
	applicationsets "github.com/argoproj/argo-cd/v3/cmd/argocd-applicationset-controller/commands"
	reposerver "github.com/argoproj/argo-cd/v3/cmd/argocd-repo-server/commands"
	"github.com/spf13/cobra"
)

func main() {
	root := &cobra.Command{Use: "argocd", SilenceUsage: true}
	for name, command := range map[string]*cobra.Command{
		"controller":      controller.NewCommand(),
		"applicationsets": applicationsets.NewCommand(),
		"repo-server":     reposerver.NewCommand(),
		"cache HOST:PORT": {Args: cobra.ExactArgs(1), RunE: cache},
	} {
		command.Use = name
		root.AddCommand(command)
	}
	if err := root.Execute(); err != nil {
		os.Exit(1)
	}
}

// Argo CD keeps in Redis only what it can compute anew.
func cache(_ *cobra.Command, args []string) error {
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr(args[0]); err != nil {
		return fmt.Errorf("cannot listen on %s: %w", args[0], err)
	}
	defer server.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	return nil
}
