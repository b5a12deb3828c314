package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/flix-lab/flix/services"
)

// output is the -o flag.
type output struct {
	format  string
	allowed []string
}

// flag adds -o to a command; the first allowed format is the default.
func (o *output) flag(c *cobra.Command, allowed ...string) {
	o.allowed = allowed
	c.Flags().StringVarP(&o.format, "output", "o", allowed[0], "output format: "+strings.Join(allowed, ", "))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

func (o *output) check() error {
	if !slices.Contains(o.allowed, o.format) {
		return services.Errorf(services.Invalid, "-o: %q is not an output format", o.format).WithRemedy("use one of %s", strings.Join(o.allowed, ", "))
	}
	return nil
}

// machine says whether a program reads the output.
func (o *output) machine() bool { return o.format == "json" || o.format == "yaml" }

// print writes v as JSON or YAML. YAML goes through JSON, so that both have
// the same names.
func (o *output) print(a *app, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	if o.format == "yaml" {
		return writeYAML(a, "", b)
	}
	_, err = a.env.Out.Write(append(b, '\n'))
	return err
}

// item writes v as one of a stream's items: a line of JSON, or a document of YAML.
func (o *output) item(a *app, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	if o.format == "yaml" {
		return writeYAML(a, "---\n", b)
	}
	_, err = a.env.Out.Write(append(b, '\n'))
	return err
}

// writeYAML writes what b says in JSON as YAML, after head.
func writeYAML(a *app, head string, b []byte) error {
	var plain any
	if err := yaml.Unmarshal(b, &plain); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	b, err := yaml.Marshal(plain)
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	_, err = a.env.Out.Write(append([]byte(head), b...))
	return err
}
