package lab

import (
	"time"

	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// The catalogue's rows as the stores hold them.

func planOf(p fixtures.Plan) sqldb.Plan { return sqldb.Plan(p) }

func titleOf(t fixtures.Title) sqldb.Title {
	out := sqldb.Title{
		ID: services.TitleID(t.ID), Name: t.Name, Synopsis: t.Synopsis, Genres: t.Genres, Poster: t.Poster,
		Duration: time.Duration(t.DurationS * float64(time.Second)), Countries: t.Countries, Live: t.Live, Year: t.Year,
	}
	for _, r := range t.Rungs {
		out.Rungs = append(out.Rungs, sqldb.Rung(r))
	}
	return out
}
