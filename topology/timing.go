package topology

import "time"

// Timing is every interval of the system in one value. Nothing reads a
// constant instead of it.
type Timing struct {
	// LeaseRenewal is how often an instance renews its lease in the registry.
	LeaseRenewal Duration `yaml:"lease_renewal" json:"lease_renewal"`
	// LeaseDuration is how long a lease lives without renewal.
	LeaseDuration Duration `yaml:"lease_duration" json:"lease_duration"`
	// EvictionInterval is how often the registry looks for expired leases.
	EvictionInterval Duration `yaml:"eviction_interval" json:"eviction_interval"`
	// RegistryFetch is how often a client fetches the registry's delta.
	RegistryFetch Duration `yaml:"registry_fetch" json:"registry_fetch"`
	// HealthReport is how often an appliance reports its health.
	HealthReport Duration `yaml:"health_report" json:"health_report"`
	// ReportExpiry is the age at which an appliance's last report is stale.
	ReportExpiry Duration `yaml:"report_expiry" json:"report_expiry"`
	// CacheControlSync is how often cache control reads the other regions' reports.
	CacheControlSync Duration `yaml:"cache_control_sync" json:"cache_control_sync"`
	// DNSTTL is the time to live of a DNS answer.
	DNSTTL Duration `yaml:"dns_ttl" json:"dns_ttl"`
	// FillWindowStart is the local time of day at which a site's fill window opens.
	FillWindowStart Duration `yaml:"fill_window_start" json:"fill_window_start"`
	// FillWindow is how long it stays open; 24h or more is always.
	FillWindow Duration `yaml:"fill_window" json:"fill_window"`
	// FillEscalation is how long an ISP's site waits for an exchange that makes
	// no progress before it fills from another region's, and as long again before
	// it asks the object stores.
	FillEscalation Duration `yaml:"fill_escalation" json:"fill_escalation"`
	// ScrubInterval is how often an appliance re-reads every stored file.
	ScrubInterval Duration `yaml:"scrub_interval" json:"scrub_interval"`
	// RPCTimeout bounds one call between services.
	RPCTimeout Duration `yaml:"rpc_timeout" json:"rpc_timeout"`
	// BreakerSleep is how long an open breaker waits before it probes.
	BreakerSleep Duration `yaml:"breaker_sleep" json:"breaker_sleep"`
	// CacheTTL is how long cached answers live in EVCache.
	CacheTTL Duration `yaml:"cache_ttl" json:"cache_ttl"`
	// BillingPeriod is the length of the free trial, and of what a membership is
	// charged for at a time.
	BillingPeriod Duration `yaml:"billing_period" json:"billing_period"`
	// LicenseDuration is how long a streaming licence is valid.
	LicenseDuration Duration `yaml:"license_duration" json:"license_duration"`
	// URLExpiry is how long a signed appliance URL is valid.
	URLExpiry Duration `yaml:"url_expiry" json:"url_expiry"`
	// MemberTokenExpiry is how long a sign-in lasts.
	MemberTokenExpiry Duration `yaml:"member_token_expiry" json:"member_token_expiry"`
	// SteeringTTL is how long a stock player goes by an order of appliances
	// before it asks for the next one; whole seconds.
	SteeringTTL Duration `yaml:"steering_ttl" json:"steering_ttl"`
	// ProgressReport is how often a player reports its position.
	ProgressReport Duration `yaml:"progress_report" json:"progress_report"`
	// MaxConnectionAge is the jittered age at which an edge closes a
	// keep-alive connection, so that DNS changes take hold.
	MaxConnectionAge Duration `yaml:"max_connection_age" json:"max_connection_age"`
	// EvacuationStep is how long a share of proxied traffic is watched before
	// the next, larger one.
	EvacuationStep Duration `yaml:"evacuation_step" json:"evacuation_step"`
	// EvacuationVerify is how long no client request may reach an evacuated
	// region before the evacuation is called complete.
	EvacuationVerify Duration `yaml:"evacuation_verify" json:"evacuation_verify"`
	// ProbeTimeout bounds the connect of a player's probe of an appliance, and
	// its TLS handshake.
	ProbeTimeout Duration `yaml:"probe_timeout" json:"probe_timeout"`
	// StallTimeout is how long an appliance may send a player nothing.
	StallTimeout Duration `yaml:"stall_timeout" json:"stall_timeout"`
	// FetchPatience is how long anything that a player fetches may take; a
	// segment may take longer if it plays long enough.
	FetchPatience Duration `yaml:"fetch_patience" json:"fetch_patience"`
	// FetchWatch is how often a player looks at a transfer under way.
	FetchWatch Duration `yaml:"fetch_watch" json:"fetch_watch"`
	// RetryWait is about how long a player waits before it calls the API once
	// more. It doubles from one attempt to the next, up to RetryWaitMax.
	RetryWait Duration `yaml:"retry_wait" json:"retry_wait"`
	// RetryWaitMax is the longest wait between two attempts of a player's call.
	RetryWaitMax Duration `yaml:"retry_wait_max" json:"retry_wait_max"`
	// LastWord bounds the reports at the end of a play that was broken off.
	LastWord Duration `yaml:"last_word" json:"last_word"`
	// BufferAhead is the most media that a player holds ahead of its position.
	BufferAhead Duration `yaml:"buffer_ahead" json:"buffer_ahead"`
	// KafkaRetention is how long a topic keeps its records.
	KafkaRetention Duration `yaml:"kafka_retention" json:"kafka_retention"`
}

const (
	ms = Duration(time.Millisecond)
	s  = Duration(time.Second)
	m  = Duration(time.Minute)
	h  = Duration(time.Hour)
)

// LabTiming is the preset for a lab: what takes minutes in production takes
// seconds here, in the same proportions where that matters.
func LabTiming() Timing {
	return Timing{
		LeaseRenewal: 1 * s, LeaseDuration: 3 * s, EvictionInterval: 1 * s, RegistryFetch: 1 * s,
		HealthReport: 1 * s, ReportExpiry: 4 * s, CacheControlSync: 500 * ms,
		DNSTTL:          2 * s,
		FillWindowStart: 0, FillWindow: 24 * h, FillEscalation: 10 * s, ScrubInterval: 5 * m,
		RPCTimeout: 1 * s, BreakerSleep: 1 * s, CacheTTL: 10 * s,
		BillingPeriod: 1 * h, LicenseDuration: 12 * h, URLExpiry: 4 * h, MemberTokenExpiry: 24 * h,
		SteeringTTL: 1 * s, ProgressReport: 2 * s, MaxConnectionAge: 60 * s,
		EvacuationStep: 200 * ms, EvacuationVerify: 1 * s,
		ProbeTimeout: 500 * ms, StallTimeout: 1500 * ms, FetchPatience: 2 * s, FetchWatch: 100 * ms,
		RetryWait: 50 * ms, RetryWaitMax: 2 * s, LastWord: 2 * s, BufferAhead: 30 * s,
		KafkaRetention: 24 * h,
	}
}

// ProductionTiming is the preset with the originals' defaults: Eureka renews
// every 30 s, keeps a lease 90 s and evicts every 60 s; appliances report
// about every 5 minutes; content steering's default is 5 minutes; a fill window is
// 12 hours from 02:00 local time. A player's patience is not of the originals, but
// of the order that players for the open internet use.
func ProductionTiming() Timing {
	t := LabTiming()
	t.LeaseRenewal, t.LeaseDuration, t.EvictionInterval, t.RegistryFetch = 30*s, 90*s, 60*s, 30*s
	t.HealthReport, t.ReportExpiry, t.CacheControlSync = 5*m, 15*m, 30*s
	t.DNSTTL = 60 * s
	t.BillingPeriod = 30 * 24 * h
	t.FillWindowStart, t.FillWindow, t.ScrubInterval = 2*h, 12*h, 24*h
	t.FillEscalation = 1 * h
	t.BreakerSleep, t.CacheTTL = 5*s, 5*m
	t.SteeringTTL, t.ProgressReport, t.MaxConnectionAge = 5*m, 1*m, 10*m
	t.EvacuationStep, t.EvacuationVerify = 30*s, 2*m
	t.ProbeTimeout, t.StallTimeout, t.FetchPatience = 1*s, 4*s, 8*s
	t.RetryWait, t.RetryWaitMax, t.BufferAhead = 200*ms, 10*s, 4*m
	t.KafkaRetention = 7 * 24 * h
	return t
}

// LeavingTTL is the time to live of a DNS answer that leads to a region whose
// viewers are about to be moved: a quarter of DNSTTL, in the whole seconds that DNS
// counts. 0 is for the question alone (RFC 1035, section 3.2.1).
func (t Timing) LeavingTTL() time.Duration {
	return (t.DNSTTL.D() / 4).Truncate(time.Second)
}
