package top

// pager is how far text is scrolled.
type pager struct{ top, of int }

// move scrolls by lines.
func (p *pager) move(by, lines int) {
	p.top += by
	p.settle(p.of, lines)
}

// page scrolls by screens.
func (p *pager) page(by, lines int) { p.move(by*max(1, lines), lines) }

// settle keeps to the text, of which there are so many lines, and room for some.
func (p *pager) settle(of, lines int) {
	p.of = of
	p.top = max(0, min(p.top, of-lines))
}
