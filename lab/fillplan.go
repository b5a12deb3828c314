package lab

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// FillPlan implements control.FillEngine.
func (l *Lab) FillPlan(ctx context.Context, r control.FillPlanRequest) (control.FillPlan, error) {
	out := control.FillPlan{Appliances: []control.FillPlanAppliance{}, Moves: []control.FillMove{}, Sites: []control.SitePlacement{}}
	req := &cachecontrolpb.FillPlanRequest{Limit: uint32(max(0, r.Limit))}
	var err error
	if req.Scope, err = l.scope(r.Scope); err != nil {
		return out, err
	}
	if r.Title != "" {
		if req.TitleId, err = l.titleID(ctx, r.Title); err != nil {
			return out, err
		}
	}
	var rep *cachecontrolpb.FillPlanReply
	if err := l.anyCacheControl(ctx, func(ctx context.Context, cc cachecontrolpb.CacheControlClient) (err error) {
		rep, err = cc.FillPlan(ctx, req)
		return err
	}); err != nil {
		return out, err
	}
	out.FillTime, out.LeftOff = fillTimeOf(rep.GetTime()), int(rep.GetLeftOff())
	for _, a := range rep.GetAppliances() {
		out.Appliances = append(out.Appliances, control.FillPlanAppliance{
			FillTime: fillTimeOf(a.GetTime()), Name: a.GetName(), Region: a.GetRegion(), Site: a.GetSite(), Kind: a.GetKind(),
			Missing: int(a.GetMissing()), InFlight: int(a.GetInFlight()), Blocked: a.GetBlocked(), RemovableBytes: a.GetRemovableBytes(),
		})
	}
	for _, m := range rep.GetMoves() {
		f := m.GetFile()
		out.Moves = append(out.Moves, control.FillMove{
			Appliance: m.GetAppliance(), Title: m.GetTitleId(), Version: m.GetVersion(), Path: f.GetPath(), Bytes: f.GetSize(),
			State: f.GetState(), Source: sourceOf(f.GetSource()), From: f.GetFrom(), Why: f.GetWhy(),
		})
	}
	for _, s := range rep.GetSites() {
		out.Sites = append(out.Sites, placementOf(s))
	}
	return out, nil
}

// FillExplain implements control.FillEngine.
func (l *Lab) FillExplain(ctx context.Context, r control.FillExplainRequest) (control.FillExplained, error) {
	out := control.FillExplained{Checks: []control.FillCheck{}, Files: []control.ExplainedFile{}}
	title, err := l.titleID(ctx, r.Title)
	if err != nil {
		return out, err
	}
	appliance, err := l.applianceNamed(r.Appliance)
	if err != nil {
		return out, err
	}
	var rep *cachecontrolpb.FillExplainReply
	if err := l.anyCacheControl(ctx, func(ctx context.Context, cc cachecontrolpb.CacheControlClient) (err error) {
		rep, err = cc.FillExplain(ctx, &cachecontrolpb.FillExplainRequest{TitleId: title, Appliance: appliance})
		return err
	}); err != nil {
		return out, err
	}
	out.Title, out.Name, out.Version, out.Appliance, out.Region, out.Site = rep.GetTitleId(), rep.GetName(), rep.GetVersion(), rep.GetAppliance(), rep.GetRegion(), rep.GetSite()
	out.State, out.Why, out.Planner, out.Own, out.Placement = rep.GetState(), rep.GetWhy(), rep.GetPlanner(), rep.GetOwn(), placementOf(rep.GetPlacement())
	for _, c := range rep.GetChecks() {
		out.Checks = append(out.Checks, control.FillCheck{Check: c.GetCheck(), OK: c.GetOk(), Text: c.GetText()})
	}
	for _, f := range rep.GetFiles() {
		out.Files = append(out.Files, control.ExplainedFile{
			Path: f.GetPath(), Bytes: f.GetSize(), State: f.GetState(), Source: sourceOf(f.GetSource()), From: f.GetFrom(), Why: f.GetWhy(),
		})
	}
	return out, nil
}

// SetFillRule implements control.FillEngine.
func (l *Lab) SetFillRule(ctx context.Context, r control.FillRule) (control.FillRules, error) {
	out := control.FillRules{Rules: []control.FillRule{}}
	rule := &cachecontrolpb.FillRule{Kind: r.Kind, Active: r.Active}
	var err error
	if rule.Scope, err = l.scope(r.Scope); err != nil {
		return out, err
	}
	if r.Title != "" {
		if rule.TitleId, err = l.titleID(ctx, r.Title); err != nil {
			return out, err
		}
	}
	var rep *cachecontrolpb.SetFillRulesReply
	if err := l.anyCacheControl(ctx, func(ctx context.Context, cc cachecontrolpb.CacheControlClient) (err error) {
		rep, err = cc.SetFillRules(ctx, &cachecontrolpb.SetFillRulesRequest{Rules: []*cachecontrolpb.FillRule{rule}})
		return err
	}); err != nil {
		return out, err
	}
	out.Rules = fillRulesOf(rep.GetRules())
	l.log.Add("fill.rule", orLab(rule.GetScope()), ruleText(r), nil)
	return out, nil
}

func ruleText(r control.FillRule) string {
	text := strings.TrimSpace(r.Kind + " " + r.Title)
	if !r.Active {
		text += " ended"
	}
	return text
}

func orLab(scope string) string {
	if scope == "" {
		return "lab"
	}
	return scope
}

// scope finds what a name means: "" and "lab" are the lab, then a region, a
// site, an appliance or the end of one's name.
func (l *Lab) scope(name string) (string, error) {
	if name == "" || name == "lab" {
		return "", nil
	}
	i, err := l.need()
	if err != nil {
		return "", err
	}
	for _, inst := range i.instances() {
		if inst.Region == name || inst.Role == topology.RoleOCA && inst.Site != nil && inst.Site.Name == name {
			return name, nil
		}
	}
	return l.applianceNamed(name)
}

// applianceNamed finds an appliance by its name, or by an end of it that no
// other one has.
func (l *Lab) applianceNamed(name string) (string, error) {
	i, err := l.need()
	if err != nil {
		return "", err
	}
	var hits, inside []string
	for _, inst := range i.instances() {
		if inst.Role != topology.RoleOCA {
			continue
		}
		if inst.Region == name || inst.Site != nil && inst.Site.Name == name {
			inside = append(inside, inst.ID)
		}
		if inst.ID == name {
			return name, nil
		}
		if strings.HasSuffix(inst.ID, "/"+name) {
			hits = append(hits, inst.ID)
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		if len(inside) > 0 {
			slices.Sort(inside)
			return "", services.Errorf(services.Invalid, "%q is no single appliance", name).WithRemedy("name one of it, e.g. %s", inside[0])
		}
		return "", services.Errorf(services.NotFound, "no appliance, site or region is called %q", name).WithRemedy("flix fill status lists the appliances")
	}
	slices.Sort(hits)
	return "", services.Errorf(services.Invalid, "%q may be %s", name, strings.Join(hits, " or ")).WithRemedy("write more of the name")
}

func fillTimeOf(t *cachecontrolpb.FillTime) control.FillTime {
	return control.FillTime{MissingBytes: t.GetMissingBytes(), OriginBytes: t.GetOriginBytes(), RateBPS: t.GetRateBps(), ETAMS: t.GetEtaMs(), BoundMS: t.GetBoundMs(), BoundBy: t.GetBoundBy()}
}

func fillRulesOf(rules []*cachecontrolpb.FillRule) []control.FillRule {
	out := make([]control.FillRule, 0, len(rules))
	for _, r := range rules {
		out = append(out, control.FillRule{
			Kind: r.GetKind(), Scope: r.GetScope(), Title: r.GetTitleId(), Active: r.GetActive(), Since: time.Unix(0, r.GetVersion()).UTC().Format(time.RFC3339),
		})
	}
	return out
}

func placementOf(s *cachecontrolpb.SitePlacement) control.SitePlacement {
	return control.SitePlacement{
		Site: s.GetSite(), Region: s.GetRegion(), Appliances: int(s.GetAppliances()), Titles: int(s.GetTitles()), Unplaced: int(s.GetUnplaced()),
		Popular: int(s.GetPopular()), CutOff: s.GetCutOff(), PopularBytes: s.GetPopularBytes(), StoredBytes: s.GetStoredBytes(),
		CapacityBytes: s.GetCapacityBytes(), Imbalance: s.GetImbalance(),
	}
}

// sourceOf is a source's kind for people and programs; "" if there is none.
func sourceOf(s cachecontrolpb.Source) string {
	switch s {
	case cachecontrolpb.Source_SOURCE_CACHE:
		return "cache"
	case cachecontrolpb.Source_SOURCE_TIER:
		return "tier"
	case cachecontrolpb.Source_SOURCE_PEER:
		return "peer"
	case cachecontrolpb.Source_SOURCE_UNSPECIFIED:
	}
	return ""
}

func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
