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
// it is one row, the titles the member may watch by name, and says stale.
func (s *Server) rows(r *http.Request, c edge.Caller) (any, error) {
	ctx := r.Context()
	all, stale, err := s.titles(ctx)
	if err != nil {
		return nil, services.Wrap("rows", err)
	}
	page, err := s.getRows.DoFallback(ctx,
		func(ctx context.Context) (*recommendpb.RowsReply, error) {
			return s.d.Recommend.Rows(ctx, &recommendpb.RowsRequest{MemberId: c.Member, Country: c.Country})
		},
		func(context.Context, error) (*recommendpb.RowsReply, error) {
			return &recommendpb.RowsReply{Rows: []*recommendpb.Row{plainRow(all, c.Country, time.Now())}, Stale: true}, nil
		})
	if err != nil {
		return nil, services.Wrap("rows", err)
	}
	byID := make(map[string]sqldb.Title, len(all))
	for _, t := range all {
		byID[string(t.ID)] = t
	}
	reply := RowsReply{Rows: make([]Row, 0, len(page.GetRows())), Stale: stale || page.GetStale()}
	for _, row := range page.GetRows() {
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

func plainRow(all []sqldb.Title, country string, now time.Time) *recommendpb.Row {
	row := &recommendpb.Row{Name: "All titles"}
	for _, t := range all {
		if t.LiveAt(now) && t.LicensedIn(country) {
			row.TitleIds = append(row.TitleIds, string(t.ID))
		}
	}
	return row
}
