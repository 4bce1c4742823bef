// What GitOps tools say about a resource.
//
//	health argo SCRIPT   runs a health script of Argo CD on the object on standard input (JSON)
//	health flux          judges it by kstatus, as Flux and Helm do
//
// Prints {"status": "…", "message": "…"}. Lua is gopher-lua with the few libraries that Argo CD opens for scripts of its
// ConfigMap (util/lua/lua.go), so that a script which needs more fails here as it would there.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	// Reads whole numbers as Kubernetes does.
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(text); err != nil {
		return err
	}
	var verdict map[string]string
	switch {
	case len(args) == 2 && args[0] == "argo":
		verdict, err = argo(object, args[1])
	case len(args) == 1 && args[0] == "flux":
		verdict, err = flux(object)
	default:
		err = fmt.Errorf("usage: health argo SCRIPT | health flux")
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(verdict)
}

func flux(object *unstructured.Unstructured) (map[string]string, error) {
	result, err := status.Compute(object)
	if err != nil {
		return nil, err
	}
	return map[string]string{"status": result.Status.String(), "message": result.Message}, nil
}

func argo(object *unstructured.Unstructured, script string) (map[string]string, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage}, // First: the others register there.
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return nil, err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(limit)
	state.SetGlobal("obj", value(state, object.Object))
	if err := state.DoFile(script); err != nil {
		return nil, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("the script returned %s, not a table", state.Get(-1).Type())
	}
	verdict := map[string]string{}
	for _, key := range []string{"status", "message"} {
		if text, ok := table.RawGetString(key).(lua.LString); ok {
			verdict[key] = string(text)
		}
	}
	switch verdict["status"] {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown":
		return verdict, nil
	}
	return nil, fmt.Errorf("the script returned the status %q", verdict["status"])
}

func value(state *lua.LState, from any) lua.LValue {
	switch it := from.(type) {
	case bool:
		return lua.LBool(it)
	case int64:
		return lua.LNumber(it)
	case float64:
		return lua.LNumber(it)
	case string:
		return lua.LString(it)
	case []any:
		table := state.CreateTable(len(it), 0)
		for _, item := range it {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(it))
		for key, item := range it {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
