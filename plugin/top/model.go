package top

import (
	"slices"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// model is all that the screen depends on. Update and View do no I/O and know no clock
// but the one that frames bring.
type model struct {
	style  screen.Style
	scope  cli.Scope
	height int
	now    time.Time

	devices    *table[device]
	placements *table[live.Placement]
	// placed are the placements of each device, whether it is in view or not.
	placed map[key][]*live.Placement
	active view

	connection connection
	rate       rate
	// checked is when it was last looked at who is late: time alone makes a device so.
	checked time.Time
	// read tells which lists have been read.
	readDevices, readPlacements bool

	// typing tells that what is typed goes into the filter.
	typing bool
	// What covers the rows, if anything; help is before detail.
	help   bool
	detail *detail
	pager  pager
}

// view is a table, whatever its rows are.
type view interface {
	settle(lines int)
	move(by, lines int)
	page(by, lines int)
	current() (key, bool)
	about(key, time.Time) []field
	search(filter string)
	searched() string
	toggleProblems()
	sortBy(name string)
	nextOrder()
	reverse()
	title() string
	status(s screen.Style, room int) string
	lines(s screen.Style, now time.Time, room int) []string
	all(screen.Style, time.Time) []string
	none(cli.Scope) string
}

// detail is about one object of a view.
type detail struct {
	view view
	key  key
}

// connection is how the feed is.
type connection struct {
	// lost is since when there is none; zero while there is. err is why.
	lost time.Time
	err  error
}

// changes to objects of one kind since the last frame.
type changes[T any] struct {
	// listed tells that these are all that there are, and not changes.
	listed bool
	// objects as they are now; nil is one that is gone.
	objects map[key]*T
	// count is how many changes there were; several may be to the same object.
	count int
}

// frame is what has happened since the one before.
type frame struct {
	now        time.Time
	connection connection
	heartbeats changes[live.Heartbeat]
	placements changes[live.Placement]
}

// newModel begins with the view that knows an order of that name.
func newModel(style screen.Style, scope cli.Scope, order string, now time.Time) *model {
	m := &model{
		style: style, scope: scope, now: now,
		devices: newTable(deviceKind(scope.Key)), placements: newTable(placementKind(scope.Key)),
		placed: map[key][]*live.Placement{},
		rate:   rate{begin: now},
	}
	m.devices.sortBy(order)
	m.placements.sortBy(order)
	m.active = m.devices
	if !slices.Contains(m.devices.orderNames(), order) {
		m.active = m.placements
	}
	return m
}

// Init has nothing to do: frames come from outside.
func (m *model) Init() tea.Cmd { return nil }

// Update takes in one thing that has happened.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var command tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.style.Width, m.height = msg.Width, msg.Height
	case tea.KeyMsg:
		command = m.key(msg)
	case frame:
		m.take(msg)
	}
	lines := m.layout().rows
	m.devices.settle(lines)
	m.placements.settle(lines)
	m.pager.settle(len(m.covering()), m.layout().cover)
	return m, command
}

// inactive is the other view.
func (m *model) inactive() view {
	if m.active == view(m.devices) {
		return m.placements
	}
	return m.devices
}

// reading tells that there is no whole picture yet.
func (m *model) reading() bool { return !m.readDevices || !m.readPlacements }
