package mariadb

import (
	"strconv"
	"strings"

	"github.com/flix-lab/flix/services"
)

// gtid is a transaction's global id within replication domain 0, the only one
// here: the server that ran it first and its number in the one history.
type gtid struct {
	server uint64
	seq    uint64
}

// parseGTIDs reads a list such as "0-1-100,0-2-150" and keeps domain 0.
func parseGTIDs(list string) ([]gtid, error) {
	var out []gtid
	for text := range strings.SplitSeq(list, ",") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		parts := strings.Split(text, "-")
		var n [3]uint64
		if len(parts) != len(n) {
			return nil, services.Errorf(services.Internal, "%q is no global transaction id", text)
		}
		for i, p := range parts {
			var err error
			if n[i], err = strconv.ParseUint(p, 10, 64); err != nil {
				return nil, &services.Error{Kind: services.Internal, Msg: "global transaction id " + text, Err: err}
			}
		}
		if n[0] == 0 {
			out = append(out, gtid{server: n[1], seq: n[2]})
		}
	}
	return out, nil
}

// parsePosition reads a position: at most one id per domain.
func parsePosition(list string) (gtid, error) {
	all, err := parseGTIDs(list)
	if err != nil || len(all) == 0 {
		return gtid{}, err
	}
	return all[len(all)-1], nil
}

// String is the id as MariaDB writes it; the start of history is "".
func (g gtid) String() string {
	if g.seq == 0 {
		return ""
	}
	return "0-" + strconv.FormatUint(g.server, 10) + "-" + strconv.FormatUint(g.seq, 10)
}
