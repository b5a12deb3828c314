package mariadb

import "github.com/prometheus/client_golang/prometheus"

// keeperCollector shows the Keeper's last look; the names are the embedded
// adapter's where there is the like.
type keeperCollector struct {
	k *Keeper

	up, primary, epoch, position, behind, lag, following, semiSync, replicas, diverged, strays *prometheus.Desc
}

func newKeeperCollector(k *Keeper) *keeperCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &keeperCollector{
		k:         k,
		up:        desc("sql_up", "1 when the region's server answers its Keeper; the others are shown only then."),
		primary:   desc("sql_primary", "1 when the server is the primary."),
		epoch:     desc("sql_epoch", "Newest promotion that the server knows of."),
		position:  desc("sql_position", "Number of the last transaction in the server's history."),
		behind:    desc("sql_replica_behind", "Transactions that a replica has not applied; told by the primary.", "peer"),
		lag:       desc("sql_replica_lag_seconds", "Age of what the replica applies; missing while it is not connected."),
		following: desc("sql_replicating", "1 when the replica receives and applies."),
		semiSync:  desc("sql_semi_sync", "1 when replicas have confirmed all that the primary has; 0 when it commits without."),
		replicas:  desc("sql_semi_sync_replicas", "Replicas connected to the primary that confirm."),
		diverged:  desc("sql_diverged_changesets", "Transactions of this server that no primary took over, kept aside."),
		strays:    desc("sql_stray_transactions", "Transactions of this server that the primary has not, for which it is kept out."),
	}
}

// Describe implements prometheus.Collector.
func (c *keeperCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.primary, c.epoch, c.position, c.behind, c.lag, c.following, c.semiSync, c.replicas, c.diverged, c.strays} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *keeperCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	truth := func(d *prometheus.Desc, is bool) {
		v := 0.0
		if is {
			v = 1
		}
		gauge(d, v)
	}
	c.k.mu.Lock()
	s, strays := c.k.seen, c.k.strays
	c.k.mu.Unlock()
	truth(c.up, s.ok)
	if !s.ok {
		return
	}
	primary := c.k.leads(s) && !s.own.readOnly
	truth(c.primary, primary)
	gauge(c.epoch, float64(s.own.last().epoch))
	gauge(c.position, float64(s.own.position()))
	gauge(c.diverged, float64(s.own.diverged))
	gauge(c.strays, float64(strays))
	if primary {
		truth(c.semiSync, s.own.semiSync.on)
		gauge(c.replicas, float64(s.own.semiSync.replicas))
		for region, v := range s.peers {
			gauge(c.behind, float64(s.own.position()-min(v.position(), s.own.position())), region)
		}
		return
	}
	truth(c.following, s.own.source.receiving && s.own.source.applying)
	if s.own.source.lag >= 0 {
		gauge(c.lag, float64(s.own.source.lag))
	}
}
