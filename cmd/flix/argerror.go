package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/services"
)

// nameArgs has every command say which of its arguments is missing, or is one too
// many, where cobra only counts them.
func nameArgs(c *cobra.Command) {
	for _, sub := range c.Commands() {
		nameArgs(sub)
	}
	count := c.Args
	if count == nil {
		return
	}
	c.Args = func(cmd *cobra.Command, args []string) error {
		err := count(cmd, args)
		if err == nil {
			return emptyArg(cmd, args)
		}
		if e := (*services.Error)(nil); errors.As(err, &e) {
			return err
		}
		return argError(cmd, args, err)
	}
}

// emptyArg refuses an argument that may be left out and is there and empty, as a
// variable of a script that is not set: without it a verb is about the whole lab.
func emptyArg(c *cobra.Command, args []string) error {
	for k, name := range argNames(c) {
		if k < len(args) && args[k] == "" && strings.HasPrefix(name, "[") {
			verb := strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
			return services.Errorf(services.Invalid, "%s: %s is empty", verb, strings.Trim(name, "[]…")).WithRemedy("name one, or leave the argument out")
		}
	}
	return nil
}

// argError says of a wrong number of arguments which it is about; err is what
// counted them.
func argError(c *cobra.Command, args []string, err error) error {
	if !strings.Contains(err.Error(), "arg(s)") {
		return err
	}
	names := argNames(c)
	remedy := "write it like: " + firstExample(c)
	verb := strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
	for k, name := range names {
		if k >= len(args) && !strings.HasPrefix(name, "[") {
			return services.Errorf(services.Invalid, "%s: %s is missing", verb, strings.Trim(name, "…")).WithRemedy("%s", remedy)
		}
	}
	if len(args) > len(names) {
		return services.Errorf(services.Invalid, "%s: %q is one too many", verb, args[len(names)]).WithRemedy("%s", remedy)
	}
	return err
}

// argNames are what the arguments of a command are called in its usage; those that
// may be left out begin with a bracket.
func argNames(c *cobra.Command) []string {
	var names []string
	for _, f := range strings.Fields(c.Use)[1:] {
		if strings.HasPrefix(f, "-") || strings.HasPrefix(f, "[-") || f == "[flags]" || f == "|" {
			break
		}
		names = append(names, f)
	}
	return names
}

// firstExample is one call of a command, its usage if it has no example.
func firstExample(c *cobra.Command) string {
	for line := range strings.Lines(c.Example) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "  #")
		if strings.HasPrefix(line, c.CommandPath()+" ") {
			return strings.TrimSpace(line)
		}
	}
	return c.CommandPath() + " " + strings.Join(strings.Fields(c.Use)[1:], " ")
}

var quotedFlag = regexp.MustCompile(`"([^"]+)"`)

// neededFlags says which flags are missing, in the words of the other errors.
func neededFlags(err error) error {
	if !strings.HasPrefix(err.Error(), "required flag(s) ") {
		return err
	}
	var names []string
	for _, m := range quotedFlag.FindAllStringSubmatch(err.Error(), -1) {
		names = append(names, "--"+m[1])
	}
	return usageError{fmt.Errorf("%s: not given, and needed", strings.Join(names, ", "))}
}
