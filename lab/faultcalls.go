package lab

import (
	"maps"
	"slices"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/kv/kvpb"
	"github.com/flix-lab/flix/services/license/licensepb"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/recommend/recommendpb"
	"github.com/flix-lab/flix/services/search/searchpb"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
	"github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/transcode/transcodepb"
	"github.com/flix-lab/flix/topology"
)

// dependencies are the methods of the services that others call by gRPC, those
// that a fault may fail or delay.
func dependencies() map[string][]string {
	out := map[string][]string{}
	for role, d := range map[topology.Role]grpc.ServiceDesc{
		topology.RoleLicense: licensepb.License_ServiceDesc, topology.RolePlayback: playbackpb.Playback_ServiceDesc,
		topology.RoleSteering: steeringpb.Steering_ServiceDesc, topology.RoleCacheControl: cachecontrolpb.CacheControl_ServiceDesc,
		topology.RoleRecommend: recommendpb.Recommend_ServiceDesc, topology.RoleKV: kvpb.KV_ServiceDesc, topology.RoleSQL: sqldbpb.SQL_ServiceDesc,
		topology.RoleSearch: searchpb.Search_ServiceDesc, topology.RoleTranscode: transcodepb.Transcode_ServiceDesc,
	} {
		methods := map[string]bool{}
		for _, m := range d.Methods {
			methods[m.MethodName] = true
		}
		for _, s := range d.Streams {
			methods[s.StreamName] = true
		}
		out[string(role)] = slices.Sorted(maps.Keys(methods))
	}
	return out
}
