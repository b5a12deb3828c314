package discovery

import (
	"context"
	"net/http"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/recommend/recommendpb"
	"github.com/flix-lab/flix/services/sqldb"
)

// rows answers with the member's home page. Without the recommendation service
// it is the page that the member had last in this country, and without that one
// row, the titles the member may watch by name; both say stale.
func (s *Server) rows(r *http.Request, c edge.Caller) (any, error) {
	ctx := r.Context()
	all, stale, err := s.titles(ctx)
	if err != nil {
		return nil, services.Wrap("rows", err)
	}
	page, err := s.pages.Refresh(ctx, pageKey(c), func(ctx context.Context) ([]*recommendpb.Row, error) {
		got, err := s.d.Recommend.Rows(ctx, &recommendpb.RowsRequest{MemberId: c.Member, Country: c.Country})
		stale = stale || got.GetStale()
		return got.GetRows(), err
	})
	if err != nil {
		page.Value, page.Stale = []*recommendpb.Row{plainRow(all, c.Country, time.Now())}, true
	}
	byID := make(map[string]sqldb.Title, len(all))
	for _, t := range all {
		byID[string(t.ID)] = t
	}
	reply := RowsReply{Rows: make([]Row, 0, len(page.Value)), Stale: stale || page.Stale}
	for _, row := range page.Value {
		out := Row{Name: row.GetName(), Titles: make([]Title, 0, len(row.GetTitleIds()))}
		for _, id := range row.GetTitleIds() {
			if t, ok := byID[id]; ok { // not yet in our copy: in the next one
				out.Titles = append(out.Titles, shown(t))
			}
		}
		if len(out.Titles) > 0 {
			reply.Rows = append(reply.Rows, out)
		}
	}
	return reply, nil
}

// pageKey is where the copy of a member's page lies. What a member may watch is
// the country's.
func pageKey(c edge.Caller) string { return "discovery/rows/" + c.Country + "/" + c.Member }

func plainRow(all []sqldb.Title, country string, now time.Time) *recommendpb.Row {
	row := &recommendpb.Row{Name: "All titles"}
	for _, t := range all {
		if t.LiveAt(now) && t.LicensedIn(country) {
			row.TitleIds = append(row.TitleIds, string(t.ID))
		}
	}
	return row
}
