package cassandra

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

const (
	// maxPage is the most items in one page; maxPageBytes bounds their values.
	maxPage      = 1000
	maxPageBytes = 1 << 20
	// fetch is how many rows the nodes send at a time. They count rows and not
	// bytes: with values of the largest size it is 64 MiB.
	fetch = 64
)

// Get implements kv.Store. It reads at LOCAL_QUORUM: what this region has
// acknowledged is there.
func (s *Store) Get(ctx context.Context, ns kv.Namespace, partition, sort string) (kv.Item, error) {
	if err := errors.Join(validPartition(ns, partition), validSort(sort)); err != nil {
		return kv.Item{}, services.Wrap("kv.Get", err)
	}
	it := kv.Item{Sort: sort}
	err := s.call(ctx, "get", ns, func(ctx context.Context, session *gocql.Session) error {
		var written int64
		err := session.Query("SELECT value, region, WRITETIME(value) FROM "+s.table+" WHERE namespace=? AND partition=? AND sort=?", ns.Name, partition, sort).
			Idempotent(true).SetSpeculativeExecutionPolicy(s.local.speculation()).ScanContext(ctx, &it.Value, &it.Region, &written)
		if errors.Is(err, gocql.ErrNotFound) || err == nil && written == 0 {
			return services.Errorf(services.NotFound, "no item %s/%s/%s", ns.Name, partition, sort)
		}
		s.seen(&it, written)
		return s.failed(err, gocql.LocalQuorum)
	})
	if err != nil {
		return kv.Item{}, err
	}
	return it, nil
}

// seen sets the time of an item that was read, and makes what this client
// writes from now on win over it.
func (s *Store) seen(it *kv.Item, written int64) {
	s.clock.observe(written)
	it.Written = time.UnixMicro(written)
}

// Query implements kv.Store. A page ends at the limit or at a megabyte of
// values. Its token is the sort key of its last item, not the paging state of
// the driver, which can only end a page where the nodes have ended theirs and
// which they do not check against the query: so a page may be cut anywhere,
// and is not disturbed by writes between two calls.
func (s *Store) Query(ctx context.Context, ns kv.Namespace, partition string, r kv.Range) ([]kv.Item, string, error) {
	cql, args, err := s.selection(ns, partition, r)
	if err != nil {
		return nil, "", services.Wrap("kv.Query", err)
	}
	limit := r.Limit
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	var items []kv.Item
	next := ""
	err = s.call(ctx, "query", ns, func(ctx context.Context, session *gocql.Session) error {
		// One row more tells whether there is a next page.
		iter := session.Query(cql, append(args, limit+1)...).Idempotent(true).PageSize(min(fetch, limit+1)).IterContext(ctx)
		items, next = s.page(iter, limit)
		return s.failed(iter.Close(), gocql.LocalQuorum)
	})
	if err != nil {
		return nil, "", err
	}
	return items, next, nil
}

// page reads items until the page is full.
func (s *Store) page(iter *gocql.Iter, limit int) (items []kv.Item, next string) {
	size := 0
	for {
		var it kv.Item
		var written int64
		if !iter.Scan(&it.Sort, &it.Value, &it.Region, &written) {
			return items, ""
		}
		if len(items) == limit || size > maxPageBytes {
			return items, pageToken(items[len(items)-1].Sort)
		}
		s.seen(&it, written)
		size += len(it.Value)
		items = append(items, it)
	}
}

// selection is the statement for a range, and its values but the limit.
func (s *Store) selection(ns kv.Namespace, partition string, r kv.Range) (string, []any, error) {
	if err := errors.Join(validPartition(ns, partition), validSort(r.From, r.To)); err != nil {
		return "", nil, err
	}
	cql := strings.Builder{}
	cql.WriteString("SELECT sort, value, region, WRITETIME(value) FROM " + s.table + " WHERE namespace=? AND partition=?")
	args := []any{ns.Name, partition}
	bound := func(cond, v string) {
		cql.WriteString(" AND sort" + cond + "?")
		args = append(args, v)
	}
	from, to := ">=", "<"
	lower, upper, upTo := r.From, r.To, r.To != ""
	if r.Page != "" {
		last, ok := lastOfPage(r.Page)
		if !ok {
			return "", nil, services.Errorf(services.Invalid, "page token %.64q is not one of ours", r.Page)
		}
		if r.Reverse {
			upper, upTo = last, true
		} else {
			from, lower = ">", last
		}
	}
	bound(from, lower)
	if upTo {
		bound(to, upper)
	}
	if r.Reverse {
		cql.WriteString(" ORDER BY sort DESC")
	}
	cql.WriteString(" LIMIT ?")
	return cql.String(), args, nil
}

// A page token is "." and the sort key of the page's last item in base64: the
// dot keeps the token of an empty sort key apart from that of the first page.
func pageToken(sort string) string {
	return "." + base64.RawURLEncoding.EncodeToString([]byte(sort))
}

func lastOfPage(token string) (string, bool) {
	if token == "" || token[0] != '.' {
		return "", false
	}
	b, err := base64.RawURLEncoding.DecodeString(token[1:])
	return string(b), err == nil && len(b) <= maxKeyBytes && utf8.Valid(b)
}
