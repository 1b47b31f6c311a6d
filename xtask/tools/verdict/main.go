// Verdict says of Kubernetes objects what others' tools make of their status: kstatus, by which Flux, kpt and cli-utils wait, and a
// health script as Argo CD runs it, in the same Lua interpreter with the same few libraries.
//
//	kubectl get tenants -o json | verdict -health health.lua
//
// It reads one object or a List of them, and prints a line of JSON for each, in order.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// What is made of one object.
type verdict struct {
	Name    string `json:"name"`
	Kstatus string `json:"kstatus"`
	Health  string `json:"health,omitempty"`
	Message string `json:"message,omitempty"`
}

func main() {
	script := flag.String("health", "", "Lua script that returns an object's health")
	flag.Parse()
	if err := run(*script, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "verdict:", err)
		os.Exit(1)
	}
}

func run(script string, in io.Reader, out io.Writer) error {
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	objects, err := objects(text)
	if err != nil {
		return err
	}
	source := []byte(nil)
	if script != "" {
		if source, err = os.ReadFile(script); err != nil {
			return err
		}
	}
	lines := json.NewEncoder(out)
	for _, object := range objects {
		computed, err := status.Compute(object)
		if err != nil {
			return fmt.Errorf("%s: %w", object.GetName(), err)
		}
		said := verdict{Name: object.GetName(), Kstatus: computed.Status.String(), Message: computed.Message}
		if source != nil {
			if said.Health, said.Message, err = health(string(source), object); err != nil {
				return fmt.Errorf("%s: %w", object.GetName(), err)
			}
		}
		if err := lines.Encode(said); err != nil {
			return err
		}
	}
	return nil
}

func objects(text []byte) ([]*unstructured.Unstructured, error) {
	one := &unstructured.Unstructured{}
	if err := one.UnmarshalJSON(text); err == nil && !one.IsList() {
		return []*unstructured.Unstructured{one}, nil
	}
	list := &unstructured.UnstructuredList{}
	if err := list.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	all := []*unstructured.Unstructured{}
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	return all, nil
}

// The libraries are those that Argo CD opens where a script does not ask for more: none for texts, files or time.
var libraries = []struct {
	name string
	open lua.LGFunction
}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}}

func health(source string, object *unstructured.Unstructured) (string, string, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range libraries {
		call := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return "", "", err
		}
	}
	state.SetGlobal("obj", value(state, object.Object))
	if err := state.DoString(source); err != nil {
		return "", "", err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", fmt.Errorf("the script returned %s, not a table", state.Get(-1).Type())
	}
	said := lua.LVAsString(answer.RawGetString("status"))
	switch said {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown":
	default:
		return "", "", fmt.Errorf("%q is no health", said)
	}
	return said, lua.LVAsString(answer.RawGetString("message")), nil
}

// A JSON value as a script sees it.
func value(state *lua.LState, of any) lua.LValue {
	switch of := of.(type) {
	case map[string]any:
		table := state.CreateTable(0, len(of))
		for key, item := range of {
			table.RawSetString(key, value(state, item))
		}
		return table
	case []any:
		table := state.CreateTable(len(of), 0)
		for _, item := range of {
			table.Append(value(state, item))
		}
		return table
	case string:
		return lua.LString(of)
	case bool:
		return lua.LBool(of)
	case int64:
		return lua.LNumber(of)
	case float64:
		return lua.LNumber(of)
	default:
		return lua.LNil
	}
}
