package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is the columns that help has: a terminal's of old, and a page's.
const helpWidth = 80

// usage prints how a command is called, in the order and words of cobra's own
// usage, with what is said of flags and verbs wrapped.
func usage(c *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:")
	if c.Runnable() {
		b.WriteString("\n  " + c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\n  " + c.CommandPath() + " [command]")
	}
	b.WriteString("\n")
	if c.HasExample() {
		b.WriteString("\nExamples:\n" + c.Example + "\n")
	}
	if c.HasAvailableSubCommands() {
		for _, g := range c.Groups() {
			verbs(&b, c, g.Title, g.ID)
		}
		rest := "Available Commands:"
		if len(c.Groups()) > 0 {
			rest = "Additional Commands:"
		}
		verbs(&b, c, rest, "")
	}
	flags(&b, "Flags:", c.LocalFlags())
	flags(&b, "Global Flags:", c.InheritedFlags())
	if c.HasHelpSubCommands() {
		b.WriteString("\nAdditional help topics:\n")
		for _, sub := range c.Commands() {
			if sub.IsAdditionalHelpTopicCommand() {
				fmt.Fprintf(&b, "  %-*s %s\n", sub.CommandPathPadding(), sub.CommandPath(), sub.Short)
			}
		}
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\nUse \"%s [command] --help\" for more about a command.\n", c.CommandPath())
	}
	_, err := io.WriteString(c.OutOrStderr(), b.String())
	return err
}

// verbs lists the commands below c that are of a group, if there are any.
func verbs(b *strings.Builder, c *cobra.Command, title, group string) {
	for _, sub := range c.Commands() {
		if sub.GroupID != group || !sub.IsAvailableCommand() && sub.Name() != "help" {
			continue
		}
		if title != "" {
			b.WriteString("\n" + title + "\n")
			title = ""
		}
		fmt.Fprintf(b, "  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
	}
}

func flags(b *strings.Builder, title string, set *pflag.FlagSet) {
	if set.HasAvailableFlags() {
		b.WriteString("\n" + title + "\n" + set.FlagUsagesWrapped(helpWidth))
	}
}
