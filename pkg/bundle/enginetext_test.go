package bundle

import (
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"
)

// What engines say, as seen on Docker 20.10.24, 25.0.17, 28.5.2 and Engine 29.7.2, and who
// has to understand it.
func TestEngineTexts(t *testing.T) {
	const from = "Error response from daemon: "
	meanings := map[string]func(error) bool{
		"overlap":              isOverlap,
		"address taken":        isAddressTaken,
		"endpoint taken":       isEndpointTaken,
		"host port taken":      isHostPortTaken,
		"host address missing": isHostAddressMissing,
		"unpinnable":           isUnpinnable,
		"outside":              isOutside,
		"not paused":           isNotPaused,
		"endpoint active":      isEndpointActive,
		"ambiguous":            isAmbiguous,
		"no session":           isNoSession,
	}
	tests := []struct {
		engines string
		class   error
		text    string
		want    string // the one meaning it has; "" for none
	}{
		{"20.10, 25", errdefs.ErrPermissionDenied, "Pool overlaps with other one on this address space", "overlap"},
		{"28, 29", errdefs.ErrPermissionDenied, "invalid pool request: Pool overlaps with other one on this address space", "overlap"},
		{"all", errdefs.ErrConflict, "network with name demo already exists", ""},
		{"20.10, 25", errdefs.ErrPermissionDenied, "Address already in use", "address taken"},
		{"28, 29", errdefs.ErrPermissionDenied, "failed to set up container networking: Address already in use", "address taken"},
		{"all", errdefs.ErrPermissionDenied, "endpoint with name bot-bottle-sidecars-demo already exists in network bot-bottle-bundle-demo", "endpoint taken"},
		{
			"20.10", errdefs.ErrInternal,
			"driver failed programming external connectivity on endpoint demo (b80a): Error starting userland proxy: listen tcp4 127.0.0.1:54999: bind: address already in use",
			"host port taken",
		},
		{
			"20.10, 25", errdefs.ErrInternal,
			"driver failed programming external connectivity on endpoint demo (b80a): Bind for 127.0.0.1:54999 failed: port is already allocated",
			"host port taken",
		},
		{
			"28, 29", errdefs.ErrInternal,
			"failed to set up container networking: driver failed programming external connectivity on endpoint demo (8c41): Bind for 127.0.0.1:54999 failed: port is already allocated",
			"host port taken",
		},
		{
			"20.10, 25", errdefs.ErrInternal,
			"driver failed programming external connectivity on endpoint demo (6b2a): Error starting userland proxy: listen tcp4 10.77.66.55:32777: bind: cannot assign requested address",
			"host address missing",
		},
		{
			"28", errdefs.ErrInternal,
			"failed to set up container networking: driver failed programming external connectivity on endpoint demo (f585): failed to bind host port for 10.77.66.55::10.201.1.129:80/tcp: cannot assign requested address",
			"host address missing",
		},
		{
			"29", errdefs.ErrInternal,
			"failed to set up container networking: driver failed programming external connectivity on endpoint demo (f585): failed to bind host port 10.77.66.55:32777/tcp: cannot assign requested address",
			"host address missing",
		},
		{"20.10", errdefs.ErrInvalidArgument, "user specified IP address is supported only when connecting to networks with user configured subnets", "unpinnable"},
		{
			"25, 28", errdefs.ErrInvalidArgument,
			"invalid config for network demo: invalid endpoint settings:\nuser specified IP address is supported only when connecting to networks with user configured subnets",
			"unpinnable",
		},
		{"20.10, on a start", errdefs.ErrInternal, "Invalid address 10.201.9.2: It does not belong to any of this network's subnets", "outside"},
		{"25, on a start", errdefs.ErrInvalidArgument, "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.201.9.2", "outside"},
		{"25, 28, on a creation", errdefs.ErrInvalidArgument, "invalid config for network demo: invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.201.9.2", "outside"},
		{"28, on a start", errdefs.ErrInvalidArgument, "failed to set up container networking: invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.201.9.2", "outside"},
		{"29, on a creation", errdefs.ErrInvalidArgument, "invalid config for network demo: invalid endpoint settings:\nno configured subnet contains IP address 10.201.9.2", "outside"},
		{"29, on a start", errdefs.ErrInvalidArgument, "failed to set up container networking: invalid endpoint settings:\nno configured subnet contains IP address 10.201.9.2", "outside"},
		{"all", errdefs.ErrInternal, "Container 0419 is not paused", "not paused"},
		{"20.10, 25", errdefs.ErrPermissionDenied, "error while removing network: network demo id f388 has active endpoints", "endpoint active"},
		{"28, 29", errdefs.ErrPermissionDenied, `error while removing network: network demo has active endpoints (name:"guest" id:"d690e35bdb5e")`, "endpoint active"},
		{"20.10, on a start", errdefs.ErrInvalidArgument, "network demo is ambiguous (2 matches found on name)", "ambiguous"},
		{"20.10, on an inspection", errdefs.ErrInvalidArgument, "2 matches found based on name: network demo is ambiguous", "ambiguous"},
		{"20.10, on a removal", errdefs.ErrInvalidArgument, "network demo is ambiguous (2 matches found based on name)", "ambiguous"},
		{"20.10, 25", errdefs.ErrNotFound, "network demo not found", ""},
		{"28, 29", errdefs.ErrNotFound, "failed to set up container networking: network demo not found", ""},
		{"all", errdefs.ErrConflict, "removal of container 8c62 is already in progress", ""},
		{"all", errdefs.ErrConflict, `Conflict. The container name "/demo" is already in use by container "0419". You have to remove (or rename) that container to be able to reuse that name.`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.engines+": "+tt.text, func(t *testing.T) {
			err := fmt.Errorf("start container demo: %w", &said{from + tt.text, tt.class})
			for meaning, is := range meanings {
				if got := is(err); got != (meaning == tt.want) {
					t.Errorf("%s: %v", meaning, got)
				}
			}
		})
	}
	t.Run("no error", func(t *testing.T) {
		for meaning, is := range meanings {
			if is(nil) {
				t.Errorf("nil is %s", meaning)
			}
		}
	})
	t.Run("the client's own words", func(t *testing.T) {
		if !isNoSession(errors.New("unable to upgrade to h2c, received 404")) {
			t.Error("not understood")
		}
	})
}

// said is an engine's answer.
type said struct {
	text  string
	class error
}

func (s *said) Error() string { return s.text }
func (s *said) Unwrap() error { return s.class }
