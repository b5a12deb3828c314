package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/services"
)

// Exit codes beside those of services.Kind.ExitCode; see "flix help exit-codes".
const (
	exitOK          = 0
	exitInterrupted = 130
)

// reasonExits give the causes that scripts ask for a code of their own.
var reasonExits = map[string]int{
	services.ReasonNoLab:          20,
	services.ReasonNoTitle:        21,
	services.ReasonNotLicensed:    22,
	services.ReasonPlanDevice:     23,
	services.ReasonPlanResolution: 24,
	services.ReasonPlanStreams:    25,
	services.ReasonUnknownISP:     26,
	services.ReasonNotLive:        27,
	services.ReasonNoReplica:      28,
	services.ReasonPlayFailed:     29,
	services.ReasonNoFFmpeg:       31,
	lab.ReasonDiffers:             32,
	services.ReasonDataLost:       33,
	lab.ReasonVerdict:             34,
	lab.ReasonHypothesisFails:     40,
	lab.ReasonAborted:             41,
	lab.ReasonInconclusive:        42,
}

const exitHelp = `Every command ends with one of these codes:

  0    it did what it was asked
  1    an internal error: a bug, or a broken store
  2    the request is wrong: a flag, an argument, a topology file
  3    no such thing (instance, region, job, trace)
  4    not allowed
  5    the state does not permit it now
  6    something is out of reach; try again
  7    a limit or budget is used up
  20   there is no lab of that name
  21   there is no such title
  22   the title is not licensed in that country
  23   the plan does not allow the device
  24   the plan does not allow the resolution
  25   the plan's streams are all in use
  26   there is no such ISP
  27   the title is not live yet
  28   no appliance holds the title
  29   a play failed
  31   ffmpeg is not on PATH
  32   the lab is not as it is wanted: flix lab diff shows where
  33   a write that was acknowledged globally, or in SQL, is lost
  34   the verdict of a load does not hold
  40   an experiment's hypothesis fails
  41   an experiment was aborted: viewers suffered too much
  42   an experiment came to no verdict: too few plays, or its control group
       misses a bound, too
  130  interrupted

flix lab exec ends with the code of the command it ran.`

// app carries what every command shares.
type app struct {
	env  Env
	name string // --name
}

func run(parent context.Context, env Env) int {
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second signal ends the program at once: stop() restores the default.
	context.AfterFunc(ctx, stop)

	out := &sink{w: env.Out}
	if !env.OutTTY { // a terminal is written to as it is: the dashboard asks what it can
		env.Out = out
	}
	root := newRoot(env)
	root.SetArgs(env.Args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	cmd, err := root.ExecuteContextC(ctx)
	err = out.failure(err)
	if err == nil {
		return exitOK
	}
	if status := exitStatus(0); errors.As(err, &status) {
		return int(status)
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || services.KindOf(err) == services.Unavailable) {
		env.errOut().Error("interrupted", "", cmp.Or(cmd.Annotations[whenInterrupted], "run the same command again: what is done already is kept"))
		return exitInterrupted
	}
	return report(env, cmd.CommandPath(), neededFlags(err))
}

// outOfRoom gives an error of a full disk its kind and its remedy, unless it has
// them. What the daemon, a host or a store met comes as text.
func outOfRoom(err error) error {
	var e *services.Error
	if errors.As(err, &e) && (e.Kind != services.Internal || e.Remedy != "") {
		return err
	}
	for _, told := range []string{syscall.ENOSPC.Error(), syscall.EDQUOT.Error(), "database or disk is full"} {
		if strings.Contains(err.Error(), told) {
			return &services.Error{Kind: services.Exhausted, Reason: services.ReasonOf(err), Err: err, Remedy: "free space on that disk and run the same command again; flix lab snapshot ls shows what of the labs may go"}
		}
	}
	return err
}

// whenInterrupted annotates a command that keeps nothing of what it has done with
// what to do after an interrupt.
const whenInterrupted = "interrupted"

// report prints an error of a command in the one format there is, and picks the
// exit code.
func report(env Env, command string, err error) int {
	err = outOfRoom(err)
	var e *services.Error
	if !errors.As(err, &e) {
		e = &services.Error{Kind: services.Internal}
		if isUsage(err) {
			e.Kind = services.Invalid
			e.Remedy = "see " + command + " --help"
		}
	}
	env.errOut().Error(err.Error(), e.Reason, e.Remedy)
	if code, ok := reasonExits[e.Reason]; ok {
		return code
	}
	return e.Kind.ExitCode()
}

// usageError marks a wrong command line.
type usageError struct{ error }

// Unwrap lets what says more than that be found.
func (u usageError) Unwrap() error { return u.error }

func isUsage(err error) bool {
	var u usageError
	if errors.As(err, &u) {
		return true
	}
	// cobra has no types for these.
	for _, text := range []string{"unknown command", "arg(s)", "required flag(s)", "if any flags in the group", "none of the others can be"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

func newRoot(env Env) *cobra.Command {
	a := &app{env: env}
	a.env.differs = a.warnOfBuild()
	root := &cobra.Command{
		Use:   "flix",
		Short: "A global-scale streaming lab on one machine",
		Long: `flix builds a small planet on one machine: regions with zones, an edge gateway,
application APIs, microservices, data stores, a stream pipeline and an Open
Connect CDN, with a WAN between them. It plays real video through all of it, and
breaks it on purpose to measure what viewers feel.`,
		Example: `  flix lab up --regions 3
  flix play --title "Harbor Lights"
  flix fill status
  flix failover us-east
  flix lab down`,
		SilenceUsage: true, SilenceErrors: true,
		Args: noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usageError{flagError(c, err)} })
	root.PersistentFlags().StringVar(&a.name, "name", lab.DefaultName, "name of the lab; several labs run side by side")
	root.PersistentFlags().StringVar(&a.name, "lab", lab.DefaultName, "the same as --name")
	root.AddGroup(&cobra.Group{ID: "lab", Title: "Lab:"}, &cobra.Group{ID: "watch", Title: "Watch:"}, &cobra.Group{ID: "operate", Title: "Operate:"})
	add := func(group string, cs ...*cobra.Command) {
		for _, c := range cs {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("lab", newLabCmd(a))
	add("watch", newPlayCmd(a), newOpenCmd(a), newTitleCmd(a), newTraceCmd(a), newAPICmd(a), newSteerCmd(a), newTopCmd(a), newEventsCmd(a), newLoadCmd(a))
	add("operate", newFillCmd(a), newTranscodeCmd(a), newFailoverCmd(a), newFailbackCmd(a), newImagesCmd(a), newABRCmd(a), newCacheCmd(a), newRegistryCmd(a), newGatewayCmd(a), newCommandCmd(a), newChaosCmd(a), newReportCmd(a), newScaleCmd(a))
	root.AddCommand(newVersionCmd(a), newDaemonCmd(a), newHostCmd(a), newKeeperCmd(a), newServeCmd(a), newVolumeCmd(a), newManCmd(a), &cobra.Command{Use: "exit-codes", Short: "What each exit code means", Long: exitHelp})
	knowVerbs(root)
	knowTopics(root)
	nameArgs(root)
	offer(a, root)
	root.SetUsageFunc(usage)
	return root
}

// version of the build, from the module or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
