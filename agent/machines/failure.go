package machines

// Reasons that a device reports of machines, beside those of package reconcile.
const (
	ReasonNameTaken     = "NameTaken"
	ReasonImageNotFound = "ImageNotFound"
	ReasonPoolNotFound  = "PoolNotFound"
	ReasonPoolFull      = "PoolFull"
	ReasonChange        = "ChangeFailed"
	ReasonNetwork       = "NetworkFailed"
	ReasonDisk          = "DiskFailed"
)
