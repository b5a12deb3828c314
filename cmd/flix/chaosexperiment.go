package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/fault/experiment"
	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/services"
)

func newExperimentCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "experiment", Short: "Try a hypothesis: two groups, a fault, a verdict", Aliases: []string{"experiments"},
		Long: `An experiment states what viewers feel while something is broken, and tries it:
two groups of equal traffic, a baseline, faults, an end at once when viewers
suffer more than was agreed, and a verdict with how sure it is. Shipped ones
each stand for a claim about the system; a file of your own works alike.`,
		Example: `  flix chaos experiment ls
  flix chaos experiment run license-slow --html report.html
  flix chaos experiment run my.yaml --seed 7 -o json`,
	}
	c.AddCommand(newExperimentLsCmd(a), newExperimentRunCmd(a), newExperimentValidateCmd(a), newExperimentShowCmd(a))
	return c
}

// maxExperiment bounds a file that is read, in bytes: a recorded result holds the
// figures of every second.
const maxExperiment = 64 << 20

// readExperiment reads a file, or a shipped experiment by its name.
func readExperiment(ctx context.Context, name string) (experiment.Source, error) {
	b, err := input.ReadFile(ctx, name, maxExperiment)
	if errors.Is(err, os.ErrNotExist) && !strings.ContainsAny(name, "/.") {
		b, err = fixtures.Experiment(name)
		if err != nil {
			return experiment.Source{}, services.Errorf(services.NotFound, "there is no file and no shipped experiment %q", name).WithRemedy("flix chaos experiment ls lists those that are shipped")
		}
	}
	if err != nil {
		return experiment.Source{}, &services.Error{Kind: services.NotFound, Err: err, Remedy: "name a file, or a shipped experiment: flix chaos experiment ls"}
	}
	if e, ok, err := recorded(b); ok {
		return experiment.Written(e, name), err
	}
	return experiment.Read(bytes.NewReader(b), name)
}

// recorded reads the experiment out of a result, to run it again.
func recorded(b []byte) (experiment.Experiment, bool, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		return experiment.Experiment{}, false, nil
	}
	var res experiment.Result
	if err := json.Unmarshal(b, &res); err != nil || res.Experiment.Name == "" {
		return experiment.Experiment{}, true, services.Errorf(services.Invalid, "it is JSON, and no result of an experiment").WithRemedy("give a YAML file, or what flix chaos experiment run -o json printed")
	}
	return res.Experiment, true, nil
}

func newExperimentLsCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "ls", Short: "Shipped experiments", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			var all []experiment.Experiment
			for _, name := range fixtures.Experiments() {
				e, err := readExperiment(cmd.Context(), name)
				if err != nil {
					return err
				}
				all = append(all, e.Experiment)
			}
			if out.machine() {
				return out.print(a, map[string]any{"experiments": all})
			}
			var rows [][]string
			for _, e := range all {
				rows = append(rows, []string{e.Name, e.Title})
			}
			return a.env.out().Table([]string{"name", "what it shows"}, rows)
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

func newExperimentShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "A shipped experiment's file, to begin one of your own", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := fixtures.Experiment(args[0])
			if err != nil {
				return services.Errorf(services.NotFound, "there is no shipped experiment %q", args[0]).WithRemedy("flix chaos experiment ls lists them")
			}
			_, err = a.env.Out.Write(b)
			return err
		},
	}
}

func newExperimentValidateCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "validate FILE…", Short: "Check experiments without running them", Args: cobra.MinimumNArgs(1),
		Long: `Checks what experiments say and, where a lab is up, that it has the targets,
places and commands that they name, takes the parameters, and keeps a region and
its quorums. Without a lab only what they say is checked, and that is told.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return validateExperiments(cmd.Context(), a, out, args)
		},
		ValidArgsFunction: cobra.FixedCompletions(fixtures.Experiments(), cobra.ShellCompDirectiveDefault),
	}
	out.flag(c, "text", "json", "yaml")
	return c
}

// experimentsValid is the JSON of "flix chaos experiment validate".
type experimentsValid struct {
	Valid bool `json:"valid"`
	// Lab is what targets were looked for in; "" without one.
	Lab      string              `json:"lab,omitempty"`
	Problems experiment.Problems `json:"problems"`
}

func validateExperiments(ctx context.Context, a *app, out output, names []string) error {
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil && services.ReasonOf(err) != services.ReasonNoLab {
		return err
	}
	res := experimentsValid{Problems: experiment.Problems{}}
	if client != nil {
		res.Lab = a.name
	}
	for _, name := range names {
		src, err := readExperiment(ctx, name)
		if err == nil && client != nil {
			err = lab.CheckExperiment(ctx, client, src)
		}
		var ps experiment.Problems
		switch {
		case errors.As(err, &ps):
			res.Problems = append(res.Problems, ps...)
		case err != nil:
			return err
		}
	}
	res.Valid = len(res.Problems) == 0
	if out.machine() {
		if err := out.print(a, res); err != nil {
			return err
		}
	} else if res.Valid {
		verb := "are"
		if len(names) == 1 {
			verb = "is"
		}
		a.env.out().Printf("%s %s valid\n", services.Count(len(names), "experiment"), verb)
	}
	if client == nil {
		msg := a.env.errOut()
		msg.Printf("%s\n", msg.Dim("no lab is up: whether there are the targets, places and commands was not checked"))
	}
	if !res.Valid {
		return &services.Error{Kind: services.Invalid, Err: res.Problems}
	}
	return nil
}

type experimentOptions struct {
	seed int64
	html string
	save string
	out  output
}

func newExperimentRunCmd(a *app) *cobra.Command {
	o := experimentOptions{seed: -1}
	c := &cobra.Command{
		Use: "run FILE|NAME", Short: "Run an experiment", Args: cobra.ExactArgs(1),
		Annotations: map[string]string{whenInterrupted: "its faults are lifted; run the same command again: it begins anew"},
		Long: `Runs an experiment on the lab. The command ends with 0 when the hypothesis
holds, 40 when it fails, 41 when it was aborted, 42 when there is no verdict:
there were too few plays, or the control group, which has no faults, misses a
bound as well. What -o json printed can be run again: the same experiment with
the same seed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			src, err := readExperiment(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			e := src.Experiment
			if o.seed >= 0 {
				e.Seed = uint64(o.seed)
			}
			return runExperiment(cmd.Context(), a, o, e)
		},
		ValidArgsFunction: cobra.FixedCompletions(fixtures.Experiments(), cobra.ShellCompDirectiveDefault),
	}
	fl := c.Flags()
	fl.Int64Var(&o.seed, "seed", -1, "another seed than the experiment's")
	fl.StringVar(&o.html, "html", "", "write a page with the result to this file")
	fl.StringVar(&o.save, "save", "", "write the result as JSON to this file, to be run again")
	o.out.flag(c, "text", "json", "yaml")
	return c
}

// verdictReasons are the reasons of the verdicts that are no success.
var verdictReasons = map[string]string{"fails": lab.ReasonHypothesisFails, "aborted": lab.ReasonAborted, "inconclusive": lab.ReasonInconclusive}

func runExperiment(ctx context.Context, a *app, o experimentOptions, e experiment.Experiment) error {
	client, paths, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	msg := a.env.errOut()
	res, err := lab.Experiment(ctx, client, e, func(text string) { msg.Printf("%s\n", text) })
	if err != nil {
		return err
	}
	id, kerr := lab.KeepExperiment(paths, res)
	if err := writeResult(o, res); err != nil {
		return err
	}
	if o.out.machine() {
		err = o.out.print(a, res)
	} else {
		err = printExperiment(a, res)
	}
	if err := errors.Join(err, a.again(id, kerr)); err != nil || res.Verdict == "holds" {
		return err
	}
	return services.Errorf(services.Conflict, "%s: the experiment %s: %s", e.Name, map[string]string{"fails": "shows that the hypothesis fails", "aborted": "was aborted", "inconclusive": "is inconclusive"}[res.Verdict], res.Reason).
		WithReason(verdictReasons[res.Verdict]).WithRemedy("flix events and flix trace show what happened; --html draws it")
}

func writeResult(o experimentOptions, res experiment.Result) error {
	if o.save != "" {
		b, err := json.MarshalIndent(res, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.save, append(b, '\n'), 0o644); err != nil {
			return services.Wrap("--save", err)
		}
	}
	if o.html == "" {
		return nil
	}
	var page bytes.Buffer
	if err := res.HTML(&page); err != nil {
		return err
	}
	return services.Wrap("--html", os.WriteFile(o.html, page.Bytes(), 0o644))
}

func printExperiment(a *app, r experiment.Result) error {
	s := a.env.out()
	var rows [][]string
	for _, g := range []struct {
		name string
		f    experiment.Figures
	}{{"control", r.Groups["control"]}, {"experiment", r.Groups["experiment"]}, {"before", r.Baseline}, {"after", r.Recovery}} {
		rows = append(rows, []string{
			g.name, fmt.Sprint(g.f.Plays), fmt.Sprint(g.f.Failed), fmt.Sprintf("%.1f %% (%.1f–%.1f)", 100*g.f.ErrorRatio.Value, 100*g.f.ErrorRatio.Low, 100*g.f.ErrorRatio.High),
			fmt.Sprintf("%.2f %%", 100*g.f.RebufferRatio), fmt.Sprintf("%.2f", g.f.StartsPerSecond), render.MS(g.f.P50MS), render.MS(g.f.P99MS),
		})
	}
	if err := s.Table([]string{"group", "plays", "failed", "errors", "rebuffering", "starts/s", "p50", "p99"}, rows); err != nil {
		return err
	}
	if e := r.Groups["experiment"].FirstError; e != "" {
		s.Printf("%s one of the failures: %s\n", s.Warn("!"), e)
	}
	for _, k := range r.Checks {
		mark := s.Good("✓")
		if !k.OK {
			mark = s.Bad("✗")
		}
		s.Printf("%s %s is %s, wanted %s\n", mark, k.Name, experiment.Figure(k.Value), k.Bound)
	}
	verdict := s.Bad(r.Verdict)
	if r.Verdict == "holds" {
		verdict = s.Good(r.Verdict)
	}
	s.Printf("%s: %s %s: %s\n", s.Bold(r.Experiment.Name), r.Experiment.Title, verdict, r.Reason)
	s.Printf("%s\n", s.Dim(fmt.Sprintf("confidence %.1f %% that errors exceed the control group's by at most %g; starts slower by chance: p = %.3f; seed %d", 100*r.Confidence, r.Experiment.Margin, r.SlowerP, r.Experiment.Seed)))
	return nil
}
