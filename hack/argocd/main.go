// Computes the health of objects with a script of Argo CD, in the Lua interpreter that Argo CD uses and with the libraries
// that it gives to scripts:
//
//	argocd health.lua            reads objects in JSON, and prints a line for each: its status and its message
//	argocd health_test.yaml      runs the tests in Argo CD's format, with the script beside it
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	lua "github.com/yuin/gopher-lua"
	"sigs.k8s.io/yaml"
)

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type suite struct {
	Tests []struct {
		HealthStatus health `json:"healthStatus"`
		InputPath    string `json:"inputPath"`
	} `json:"tests"`
}

func main() {
	if len(os.Args) != 2 {
		fail(errors.New("one file is needed"))
	}
	file := os.Args[1]
	run := printHealth
	if filepath.Ext(file) == ".yaml" {
		run = test
	}
	if err := run(file); err != nil {
		fail(err)
	}
}

func printHealth(file string) error {
	script, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(os.Stdin)
	for {
		var object map[string]any
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		found, err := evaluate(string(script), object)
		if err != nil {
			return err
		}
		fmt.Printf("%s %s\n", found.Status, found.Message)
	}
}

func test(file string) error {
	folder := filepath.Dir(file)
	script, err := os.ReadFile(filepath.Join(folder, "health.lua"))
	if err != nil {
		return err
	}
	var tests suite
	if err := read(file, &tests); err != nil {
		return err
	}
	for _, test := range tests.Tests {
		var object map[string]any
		if err := read(filepath.Join(folder, test.InputPath), &object); err != nil {
			return err
		}
		found, err := evaluate(string(script), object)
		if err != nil {
			return fmt.Errorf("%s: %w", test.InputPath, err)
		}
		if found != test.HealthStatus {
			return fmt.Errorf("%s: %+v, expected %+v", test.InputPath, found, test.HealthStatus)
		}
		fmt.Printf("%s %s\n", test.InputPath, found.Status)
	}
	return nil
}

func read(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return yaml.UnmarshalStrict(text, into)
}

func evaluate(script string, object map[string]any) (health, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return health{}, err
		}
	}
	timeout, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(timeout)
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return health{}, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return health{}, errors.New("the script returns no table")
	}
	return health{Status: text(table, "status"), Message: text(table, "message")}, nil
}

func text(table *lua.LTable, key string) string {
	if found, ok := table.RawGetString(key).(lua.LString); ok {
		return string(found)
	}
	return ""
}

func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case bool:
		return lua.LBool(from)
	case float64:
		return lua.LNumber(from)
	case string:
		return lua.LString(from)
	case []any:
		list := state.NewTable()
		for _, item := range from {
			list.Append(value(state, item))
		}
		return list
	case map[string]any:
		table := state.NewTable()
		for key, item := range from {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "argocd:", err)
	os.Exit(1)
}
