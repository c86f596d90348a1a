package attack

func (w *world) byToken()    {}
func (w *world) byThief()    {}
func (w *world) byBroker()   {}
func (w *world) byFlood()    {}
