package main

import (
	"bufio"
	"context"
	"strings"

	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/services"
)

// asks says whether somebody is there to confirm what a verb is about to do.
func (a *app) asks(yes bool) bool { return !yes && a.env.OutTTY && a.env.ErrTTY }

// confirm asks on the terminal whether to go on; the error is that of a no, or of
// ctx when that ends first.
func (a *app) confirm(ctx context.Context, question string) error {
	a.env.errOut().Printf("%s [y/N] ", question)
	line, _ := bufio.NewReader(input.Reader(ctx, a.env.In)).ReadString('\n') // no answer is no
	if ctx.Err() != nil {
		a.env.errOut().Printf("\n")
		return ctx.Err()
	}
	if l := strings.ToLower(strings.TrimSpace(line)); l != "y" && l != "yes" {
		return services.Errorf(services.Conflict, "nothing was done").WithRemedy("answer y, or pass --yes")
	}
	return nil
}
