package bundle

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"github.com/bot-bottle/docker-bottle/pkg/bundle/internal/memengine"
)

// The tests in this file are generated from the tables of docs/states.md.

// stateRow is a row of a table, by the names of its columns.
type stateRow map[string]string

// readStates returns the table of docs/states.md that follows a marker.
func readStates(t *testing.T, marker string) []stateRow {
	t.Helper()
	text, err := os.ReadFile("../../docs/states.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "<!-- "+marker+" -->\n")
	if !found {
		t.Fatalf("docs/states.md has no table %s", marker)
	}
	var columns []string
	var rows []stateRow
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case columns == nil:
			columns = cells
		case cells[0] != "---":
			row := stateRow{}
			for i, cell := range cells {
				row[columns[i]] = cell
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// outcome returns a cell's word for a release.
func (r stateRow) outcome(column string, release memengine.Release) string {
	word, exception, found := strings.Cut(r[column], " (")
	if version, other, _ := strings.Cut(strings.TrimSuffix(exception, ")"), ": "); found && version == fmt.Sprint(int(release)) {
		return other
	}
	return word
}

// stage is where a state is made and looked at: one bottle on one engine.
type stage struct {
	t       *testing.T
	engine  contractEngine
	release memengine.Release
	life    *Lifecycle
	spec    Spec
	octet   int // the third of the spec's subnet, which is odd

	duplicate    func(name, subnet string, labels map[string]string) string // nil: can't happen on this engine
	leaveStale   func(networkID, name string, address netip.Addr)           // nil: can't be made to happen
	withoutIPv4  bool                                                       // whether the engine has networks without IPv4
	warningCount func() int
}

// at moves an address of subnet 10.201.9.0/24, or of the one before it, to the stage's own.
func (s *stage) at(address string) string {
	address = strings.Replace(address, "10.201.9.", fmt.Sprintf("10.201.%d.", s.octet), 1)
	return strings.Replace(address, "10.201.8.", fmt.Sprintf("10.201.%d.", s.octet-1), 1)
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) up(spec Spec) *Bundle {
	s.t.Helper()
	up, err := s.life.Up(s.t.Context(), spec, UpOptions{})
	s.must(err)
	return up
}

// create creates the network and the container of a spec, and does not start it.
func (s *stage) create(spec Spec, modify func(*container.HostConfig)) string {
	s.t.Helper()
	_, _, _, err := s.life.CreateNetwork(s.t.Context(), spec)
	s.must(err)
	found, err := s.engine.ImageInspect(s.t.Context(), spec.image())
	s.must(err)
	r, err := newRequest(spec, found, s.life.lookupEnv)
	s.must(err)
	config, host, networking := r.container(spec.addressIn(spec.Subnet), r.HostIP, s.engine.ClientVersion())
	if modify != nil {
		modify(host)
	}
	created, err := s.engine.ContainerCreate(s.t.Context(), config, host, networking, nil, ContainerName(spec.Slug))
	s.must(err)
	return created.ID
}

func (s *stage) container() *container.InspectResponse {
	s.t.Helper()
	found, err := s.life.findContainer(s.t.Context(), s.spec.Slug)
	s.must(err)
	return found
}

func (s *stage) networks() []network.Summary {
	s.t.Helper()
	own, _, err := s.life.findNetworks(s.t.Context(), s.spec.Slug)
	s.must(err)
	return own
}

// bottle lists what there is of the bottle, by kind and ID.
func (s *stage) bottle() []string {
	s.t.Helper()
	var list []string
	if c := s.container(); c != nil {
		list = append(list, "container "+c.ID)
	}
	for _, n := range s.networks() {
		list = append(list, "network "+n.ID)
	}
	return list
}

// testContainerStates makes every state of every row and checks what up and down do.
func testContainerStates(t *testing.T, onStage func(*testing.T, func(*stage))) {
	for _, row := range readStates(t, "container") {
		for how, makeState := range containerStates[state(row["state"])] {
			for column, recreate := range map[string]Recreate{
				"up": RecreateChanged, "up --force-recreate": RecreateAlways, "up --no-recreate": RecreateNever,
			} {
				t.Run(strings.Join([]string{row["state"], how, column}, "/"), func(t *testing.T) {
					onStage(t, func(s *stage) {
						makeState(s)
						s.checkUp(action(row.outcome(column, s.release)), recreate)
					})
				})
			}
			t.Run(strings.Join([]string{row["state"], how, "down"}, "/"), func(t *testing.T) {
				onStage(t, func(s *stage) {
					makeState(s)
					s.checkDown(row.outcome("down", s.release))
				})
			})
		}
	}
}

func (s *stage) checkUp(want action, recreate Recreate) {
	t := s.t
	t.Helper()
	before, had := s.bottle(), s.container()
	up, err := s.life.Up(t.Context(), s.spec, UpOptions{Recreate: recreate})
	if want == actionRefuse {
		var conflict *ConflictError
		if !errors.As(err, &conflict) || conflict.Remedy == "" {
			t.Fatalf("up ends with %v, want a *ConflictError with a remedy", err)
		}
		if after := s.bottle(); !slices.Equal(after, before) {
			t.Errorf("a refused up leaves %v of %v", after, before)
		}
		return
	}
	s.must(err)
	found := s.container()
	if found == nil || !found.State.Running || found.State.Paused || found.ID != up.ContainerID {
		t.Fatalf("container is %+v after up", found)
	}
	if e := endpoint(*found, s.spec.Slug); recreate != RecreateNever && (e == nil || e.IPAddress != up.Address.String()) {
		t.Errorf("endpoint is %+v, want one at %s", e, up.Address)
	}
	same := had != nil && had.ID == found.ID
	switch want {
	case actionCreate, actionAwait, actionReplace:
		if same {
			t.Error("the container was kept")
		}
	case actionStart, actionUnpause, actionKeep:
		if !same {
			t.Error("the container was replaced")
		}
	default:
		t.Fatalf("unknown word %q", want)
	}
}

func (s *stage) checkDown(want string) {
	t := s.t
	t.Helper()
	before, warned := s.bottle(), s.warningCount()
	err := s.life.Down(t.Context(), s.spec.Slug, DownOptions{})
	after := s.bottle()
	switch want {
	case "refuse":
		var conflict *ConflictError
		if !errors.As(err, &conflict) || !slices.Equal(after, before) {
			t.Errorf("down ends with %v and leaves %v of %v, want a *ConflictError and no change", err, after, before)
		}
	case "nothing", "remove", "await":
		if err != nil || len(after) > 0 {
			t.Errorf("down ends with %v and leaves %v", err, after)
		}
		if (want == "nothing") != (len(before) == 0) && want != "await" {
			t.Errorf("there was %v before down, which the table says does %q", before, want)
		}
	case "keep":
		if err != nil || len(after) != 1 || s.warningCount() == warned {
			t.Errorf("down ends with %v, leaves %v, with %d warnings", err, after, s.warningCount()-warned)
		}
	default:
		t.Fatalf("unknown word %q", want)
	}
}

func TestStates(t *testing.T) {
	for _, release := range releases {
		onStage := func(t *testing.T, do func(*stage)) {
			inWorld(t, release, func(w *world) {
				s := &stage{
					t: w.t, engine: w.client, release: release, life: w.life,
					spec:         Spec{Slug: "demo", Subnet: netip.MustParsePrefix("10.201.9.0/24")},
					octet:        9,
					withoutIPv4:  release >= memengine.Docker28,
					warningCount: func() int { return len(w.warnings()) },
					leaveStale: func(networkID, name string, address netip.Addr) {
						if err := w.engine.LeaveEndpoint(networkID, name, address); err != nil {
							w.t.Fatal(err)
						}
					},
				}
				if release == memengine.Docker20 {
					s.duplicate = func(name, subnet string, labels map[string]string) string {
						options := bottleNetwork("", subnet, "")
						options.Labels = labels
						id, err := w.engine.DuplicateNetwork(name, options)
						s.must(err)
						return id
					}
				}
				do(s)
			})
		}
		t.Run(fmt.Sprintf("docker%d/container", release), func(t *testing.T) { testContainerStates(t, onStage) })
		t.Run(fmt.Sprintf("docker%d/network", release), func(t *testing.T) { testNetworkStates(t, onStage) })
	}
}

// TestStatesAreListed checks that the tables have a row for every state that the code
// knows, that every row has a test, and that their words are the code's.
func TestStatesAreListed(t *testing.T) {
	states, actions := constantsOf(t, "state"), constantsOf(t, "action")
	var listed []string
	for _, row := range readStates(t, "container") {
		listed = append(listed, row["state"])
		if len(containerStates[state(row["state"])]) == 0 {
			t.Errorf("no test makes the container %s", row["state"])
		}
		for column, recreate := range map[string]Recreate{"up": RecreateChanged, "up --force-recreate": RecreateAlways} {
			if word := row[column]; !slices.Contains(actions, word) || decide(state(row["state"]), recreate) != action(word) {
				t.Errorf("%s: %s does %q, and the table says %q", row["state"], column, decide(state(row["state"]), recreate), word)
			}
		}
	}
	slices.Sort(listed)
	slices.Sort(states)
	if !slices.Equal(listed, states) {
		t.Errorf("the table lists %v, the code %v", listed, states)
	}
	rows := readStates(t, "network")
	for _, row := range rows {
		if networkStates[row["state"]] == nil {
			t.Errorf("no test makes the network %s", row["state"])
		}
	}
	if len(rows) != len(networkStates) {
		t.Errorf("the table lists %d networks, the tests make %d", len(rows), len(networkStates))
	}
}

// constantsOf returns the values of the constants of a type that state.go declares.
func constantsOf(t *testing.T, typeName string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "state.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == typeName {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, value)
		}
		return true
	})
	return values
}
