package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/steering"
	"github.com/flix-lab/flix/topology"
)

// Explain implements control.Engine.
func (l *Lab) Explain(ctx context.Context, r control.SteerRequest) (out steering.Explained, err error) {
	title, err := l.titleID(ctx, r.Title)
	if err != nil {
		return out, err
	}
	return out, l.askSteering(ctx, r.Region, "/steering/explain?"+url.Values{"ip": {r.IP}, "title": {title}}.Encode(), &out)
}

// WhatIf implements control.Engine.
func (l *Lab) WhatIf(ctx context.Context, r control.SteerRequest) (out steering.WhatIf, err error) {
	return out, l.askSteering(ctx, r.Region, "/steering/whatif?"+url.Values{"lose": r.Lose}.Encode(), &out)
}

// titleID finds a title by id or name, as a viewer's search does.
func (l *Lab) titleID(ctx context.Context, name string) (string, error) {
	list, err := l.Titles(ctx, "")
	if err != nil {
		return "", err
	}
	for _, t := range list.Titles {
		if strings.EqualFold(t.ID, name) || strings.EqualFold(t.Name, name) {
			return t.ID, nil
		}
	}
	return name, nil // steering says whether it knows it
}

// askSteering asks a region's steering, or that of the first region where one
// answers.
func (l *Lab) askSteering(ctx context.Context, region, path string, out any) error {
	i, err := l.need()
	if err != nil {
		return err
	}
	if _, ok := i.Topology.Region(region); region != "" && !ok {
		return noRegion(region, i.Topology)
	}
	var errs []error
	for _, inst := range i.instances() {
		if inst.Role != topology.RoleSteering || region != "" && inst.Region != region {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, askTime)
		err = l.admin(short, s, http.MethodGet, path, nil, out)
		cancel()
		if err == nil || services.KindOf(err) != services.Unavailable {
			return err
		}
		errs = append(errs, fmt.Errorf("%s: %w", inst.ID, err))
	}
	return &services.Error{Op: "steering", Kind: services.Unavailable, Msg: "no instance answers", Err: errors.Join(errs...), Remedy: "look at what runs: flix lab status"}
}
