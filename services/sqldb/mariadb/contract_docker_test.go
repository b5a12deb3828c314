package mariadb_test

import (
	"slices"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/sqldb/mariadb"
	"github.com/flix-lab/flix/services/sqldb/sqldbtest"
)

func TestContract(t *testing.T) {
	start := time.Now()
	w := newWorld(t)
	n := w.add("us-east")
	eventually(t, "the first primary takes writes", n.leads)
	t.Logf("a server that did not exist takes writes after %v", time.Since(start).Round(10*time.Millisecond))
	sqldbtest.Run(t, func(testing.TB) sqldb.DB { return n.db })
	t.Run("text compares byte by byte", func(t *testing.T) { textOrder(t, n) })
	t.Run("what does not fit is invalid", func(t *testing.T) { tooLong(t, n) })
	t.Run("the account of the services cannot write past read-only", func(t *testing.T) {
		n.end() // the Keeper would open it again
		defer n.keep()
		n.server.sql(t, "SET GLOBAL read_only = ON")
		defer n.server.sql(t, "SET GLOBAL read_only = OFF")
		if err := n.putTitle("x"); services.ReasonOf(err) != mariadb.ReasonNoPrimary {
			t.Errorf("PutTitle on a read-only server: %v", err)
		}
	})
}

// textOrder checks case, accents, trailing spaces and characters outside the
// basic plane: in SQLite they are bytes.
func textOrder(t *testing.T, n *node) {
	names := []string{"order", "order ", "Order", "ORDER", "örder", "ordér", "order\t", "order!", "ordeŕ", "ordeｒ", "orde😀", "orde\uffff"}
	for _, name := range names {
		err := n.db.PutTitle(t.Context(), sqldb.Title{ID: services.TitleID("order-" + name), Name: name})
		if err != nil {
			t.Fatalf("PutTitle %q: %v", name, err)
		}
	}
	all, err := n.db.Titles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range all {
		if slices.Contains(names, x.Name) {
			got = append(got, x.Name)
		}
	}
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("Titles are in the order %q,\nwant %q", got, names)
	}
	for _, name := range names {
		x, err := n.db.Title(t.Context(), services.TitleID("order-"+name))
		if err != nil || x.Name != name {
			t.Errorf("Title %q = %q, %v", name, x.Name, err)
		}
	}
	if _, err := n.db.Title(t.Context(), "ORDER-order"); services.KindOf(err) != services.NotFound {
		t.Errorf("an id in other letters: %v, want NotFound", err)
	}
}

func tooLong(t *testing.T, n *node) {
	long := make([]byte, 300)
	for i := range long {
		long[i] = 'x'
	}
	for what, x := range map[string]sqldb.Title{
		"an id of 300 letters":   {ID: services.TitleID(long)},
		"a name of 300 letters":  {ID: "long", Name: string(long)},
		"a name that is no text": {ID: "long", Name: "\xff"},
	} {
		if err := n.db.PutTitle(t.Context(), x); services.KindOf(err) != services.Invalid {
			t.Errorf("%s: %v, want Invalid", what, err)
		}
	}
}
