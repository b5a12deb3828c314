package main

import (
	"bufio"
	"strings"

	"github.com/flix-lab/flix/services"
)

// asks says whether somebody is there to confirm what a verb is about to do.
func (a *app) asks(yes bool) bool { return !yes && a.env.OutTTY && a.env.ErrTTY }

// confirm asks on the terminal whether to go on; the error is that of a no.
func (a *app) confirm(question string) error {
	a.env.errOut().Printf("%s [y/N] ", question)
	line, _ := bufio.NewReader(a.env.In).ReadString('\n') // no answer is no
	if l := strings.ToLower(strings.TrimSpace(line)); l != "y" && l != "yes" {
		return services.Errorf(services.Conflict, "nothing was done").WithRemedy("answer y, or pass --yes")
	}
	return nil
}
