package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/flix-lab/flix/services"
)

// knowVerbs has every command that is only the parent of others show its help, and
// refuse a verb that is none of them: left to itself it would show help for that,
// too, and succeed.
func knowVerbs(c *cobra.Command) {
	for _, sub := range c.Commands() {
		knowVerbs(sub)
	}
	if c.HasSubCommands() && !c.Runnable() {
		c.Args = noSuchVerb
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

// knowTopics has help refuse a command that there is not.
func knowTopics(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() != "help" {
			continue
		}
		c.Args = func(_ *cobra.Command, args []string) error {
			found, rest, err := root.Find(args)
			if err != nil {
				return usageError{err}
			}
			return noSuchVerb(found, rest)
		}
	}
}

// noSuchVerb refuses what follows a command that takes nothing but verbs.
func noSuchVerb(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	see := "see " + c.CommandPath() + " --help"
	return services.Errorf(services.Invalid, "unknown command %q for %q", args[0], c.CommandPath()).
		WithRemedy("%s", perhaps(near(c, args[0]), see))
}

// near are the verbs of c that are spelt like a word.
func near(c *cobra.Command, word string) []string {
	if c.SuggestionsMinimumDistance == 0 {
		c.SuggestionsMinimumDistance = 2
	}
	return c.SuggestionsFor(word)
}

// perhaps puts what was perhaps meant before where to look.
func perhaps(meant []string, see string) string {
	if len(meant) == 0 {
		return see
	}
	return "did you mean " + strings.Join(meant, " or ") + "? " + see
}

// noSuchFlag says which flag was perhaps meant; err is what the flags' library
// says of it.
func noSuchFlag(c *cobra.Command, unknown *pflag.NotExistError) error {
	// The flags as verbs of a command: one way to tell what is spelt alike.
	names := &cobra.Command{}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	var meant []string
	if typed := unknown.GetSpecifiedName(); len(typed) > 1 {
		for _, n := range near(names, typed) {
			meant = append(meant, "--"+n)
		}
	}
	return services.Errorf(services.Invalid, "%v", unknown).WithRemedy("%s", perhaps(meant, "see "+c.CommandPath()+" --help"))
}
