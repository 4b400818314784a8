package bundle

import (
	"errors"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestDump(t *testing.T) {
	denied := errors.New("operation not permitted")
	always := make([]error, dumps)
	for i := range always {
		always[i] = netlink.ErrDumpInterrupted
	}
	tests := []struct {
		name    string
		answers []error // one for each time that the kernel is asked
		want    []int   // the number of the answer that is used
		wantErr error
	}{
		{"at once", []error{nil}, []int{1}, nil},
		{"changed meanwhile", []error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, []int{3}, nil},
		{"changing all the time", always, []int{dumps}, nil},
		{"refused", []error{netlink.ErrDumpInterrupted, denied}, nil, denied},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			asked := 0
			got, err := dump(func() ([]int, error) {
				asked++
				if err := test.answers[asked-1]; err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
					return nil, err
				}
				return []int{asked}, test.answers[asked-1]
			})
			if !errors.Is(err, test.wantErr) || !slices.Equal(got, test.want) {
				t.Errorf("got %v, %v; want %v, %v", got, err, test.want, test.wantErr)
			}
			if asked != len(test.answers) {
				t.Errorf("the kernel was asked %d times, want %d", asked, len(test.answers))
			}
		})
	}
}
