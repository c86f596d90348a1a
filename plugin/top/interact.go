package top

import (
	"cmp"
	"context"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/top/noquery"
)

func init() { noquery.Done() }

// interact shows the screen until the user quits.
func interact(parent context.Context, env *cli.Env, m *model, f *feed) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	program := tea.NewProgram(m,
		tea.WithInput(env.Streams.In), tea.WithOutput(env.Streams.Out), tea.WithAltScreen(),
		// Signals end the context, as for every command.
		tea.WithoutSignalHandler(), tea.WithFilter(sized))
	// A program that is killed by its context does not wait for its reader.
	context.AfterFunc(ctx, program.Quit)
	failed := make(chan error, 1)
	go func() {
		err := f.run(ctx, program.Send)
		if ctx.Err() != nil {
			// It was told to end.
			err = nil
		}
		cancel()
		failed <- err
	}()
	_, err := program.Run()
	cancel()
	return cmp.Or(<-failed, parent.Err(), err)
}

// sized gives a size to terminals that don't know theirs, such as a serial line.
func sized(_ tea.Model, msg tea.Msg) tea.Msg {
	if size, ok := msg.(tea.WindowSizeMsg); ok && (size.Width <= 0 || size.Height <= 0) {
		return tea.WindowSizeMsg{Width: 80, Height: 24}
	}
	return msg
}
