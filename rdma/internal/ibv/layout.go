package ibv

import "syscall"

// ErrNoEntry is how the kernel says that an entry of a GID table is empty: Linux's ENODATA.
const ErrNoEntry = syscall.Errno(61)

// Handles of verbs objects: the addresses of C structures that the library owns.
type (
	Device  uintptr
	Context uintptr
	PD      uintptr
	CQ      uintptr
	QP      uintptr
	Channel uintptr
)

// MR is a registered range, the address by which the device knows its first byte, and its two keys.
type MR struct {
	Handle     uintptr
	Addr       uint64
	LKey, RKey uint32
}

// Offsets into structures that only the library makes, of 64-bit Linux.
const (
	deviceName       = 24
	contextPollCQ    = 96
	contextNotifyCQ  = 104
	contextPostSend  = 208
	contextAsyncFD   = 268
	cqContext        = 0
	qpContext        = 0
	qpNumber         = 52
	mrLKey           = 36
	mrRKey           = 40
	channelFD        = 8
	portAttrReserved = 64 // more than any release fills
	deviceNameLength = 64
)

// GID is a port's address: an IPv6 address, or an IPv4 address mapped into one.
type GID [16]byte

// GIDEntry is ibv_gid_entry.
type GIDEntry struct {
	GID     GID
	Index   uint32
	Port    uint32
	Type    uint32
	Ifindex uint32
}

// DeviceAttr is ibv_device_attr.
type DeviceAttr struct {
	FirmwareVersion     [64]byte
	NodeGUID            uint64
	SystemGUID          uint64
	MaxMRSize           uint64
	PageSizes           uint64
	VendorID            uint32
	VendorPartID        uint32
	HardwareVersion     uint32
	MaxQP               int32
	MaxQPWR             int32
	CapFlags            uint32
	MaxSGE              int32
	MaxSGERead          int32
	MaxCQ               int32
	MaxCQE              int32
	MaxMR               int32
	MaxPD               int32
	MaxQPReadAtomic     int32 // reads that a QP answers at a time
	MaxEEReadAtomic     int32
	MaxResReadAtomic    int32
	MaxQPInitReadAtomic int32 // reads that a QP has under way at a time
	_                   [64]byte
	MaxPKeys            uint16
	LocalCAAckDelay     uint8
	Ports               uint8
	_                   [4]byte
}

// PortAttr is the part of ibv_port_attr that all releases share.
type PortAttr struct {
	State         uint32
	MaxMTU        uint32
	ActiveMTU     uint32
	GIDTableLen   int32
	CapFlags      uint32
	MaxMessage    uint32
	BadPKeys      uint32
	QKeyErrors    uint32
	PKeyTableLen  uint16
	LID           uint16
	SMLID         uint16
	LMC           uint8
	MaxVL         uint8
	SMSL          uint8
	SubnetTimeout uint8
	InitReply     uint8
	ActiveWidth   uint8
	ActiveSpeed   uint8
	PhysState     uint8
	LinkLayer     uint8
	Flags         uint8
}

// QPCap is ibv_qp_cap.
type QPCap struct {
	MaxSendWR, MaxRecvWR, MaxSendSGE, MaxRecvSGE, MaxInline uint32
}

// QPInitAttr is ibv_qp_init_attr.
type QPInitAttr struct {
	Context uintptr
	SendCQ  CQ
	RecvCQ  CQ
	SRQ     uintptr
	Cap     QPCap
	Type    uint32
	SigAll  int32
	_       uint32
}

// AH is ibv_ah_attr with the ibv_global_route in it.
type AH struct {
	DGID         GID
	FlowLabel    uint32
	SGIDIndex    uint8
	HopLimit     uint8
	TrafficClass uint8
	_            uint8
	DLID         uint16
	SL           uint8
	SrcPathBits  uint8
	StaticRate   uint8
	IsGlobal     uint8
	Port         uint8
	_            uint8
}

// QPAttr is ibv_qp_attr.
type QPAttr struct {
	State, CurrentState, PathMTU, PathMigration, QKey, RQPSN, SQPSN, DestQPN, Access uint32
	Cap                                                                              QPCap
	AH, AltAH                                                                        AH
	PKeyIndex, AltPKeyIndex                                                          uint16
	SQDNotify, SQDraining                                                            uint8
	MaxReadAtomic, MaxDestReadAtomic                                                 uint8
	MinRNRTimer, Port, Timeout, RetryCount, RNRRetry, AltPort, AltTimeout            uint8
	RateLimit                                                                        uint32
	_                                                                                uint32
}

// SGE is ibv_sge.
type SGE struct {
	Addr      uint64
	Len, LKey uint32
}

// SendWR is ibv_send_wr, with the part of its union that one-sided operations use.
type SendWR struct {
	ID     uint64
	Next   uintptr
	SGList uintptr
	NumSGE int32
	Opcode uint32
	Flags  uint32
	Imm    uint32
	Remote uint64
	RKey   uint32
	_      uint32
	_      [9]uint64
}

// WC is ibv_wc.
type WC struct {
	ID           uint64
	Status       Status
	Opcode       uint32
	VendorErr    uint32
	ByteLen      uint32
	Imm          uint32
	QPN          uint32
	SrcQP        uint32
	Flags        uint32
	PKeyIndex    uint16
	SLID         uint16
	SL, PathBits uint8
	_            [2]byte
}

// AsyncEvent is ibv_async_event. Element is a CQ, a QP or a port, as the type says.
type AsyncEvent struct {
	Element uintptr
	Type    EventType
	_       uint32
}

// Constants of verbs.h under our names.
const (
	TypeRC = 2

	StateReset = 0
	StateInit  = 1
	StateRTR   = 2
	StateRTS   = 3
	StateError = 6

	AttrState             = 1
	AttrAccess            = 8
	AttrPKeyIndex         = 16
	AttrPort              = 32
	AttrAV                = 128
	AttrPathMTU           = 256
	AttrTimeout           = 512
	AttrRetryCount        = 1024
	AttrRNRRetry          = 2048
	AttrRQPSN             = 4096
	AttrMaxReadAtomic     = 8192
	AttrMinRNRTimer       = 32768
	AttrSQPSN             = 65536
	AttrMaxDestReadAtomic = 131072
	AttrDestQPN           = 1048576

	AccessLocalWrite = 1
	AccessRemoteRead = 4

	OpRead       = 4
	SendSignaled = 2

	MTU256  = 1
	MTU4096 = 5

	PortActive = 4

	LinkInfiniBand = 1
	LinkEthernet   = 2

	GIDTypeIB     = 0
	GIDTypeRoCEv1 = 1
	GIDTypeRoCEv2 = 2
)

// Status is how a work request ended.
type Status uint32

// The statuses that are told apart.
const (
	Success         Status = 0
	LocalLength     Status = 1
	LocalOperation  Status = 2
	LocalProtection Status = 4
	Flushed         Status = 5
	LocalAccess     Status = 8
	RemoteInvalid   Status = 9
	RemoteAccess    Status = 10
	RemoteOperation Status = 11
	RetryExceeded   Status = 12
	RNRExceeded     Status = 13
	Fatal           Status = 19
	GeneralError    Status = 21
)

// EventType is what an asynchronous event tells.
type EventType uint32

// The events that somebody acts upon.
const (
	EventCQError     EventType = 0
	EventQPFatal     EventType = 1
	EventQPRequest   EventType = 2
	EventQPAccess    EventType = 3
	EventDeviceFatal EventType = 8
	EventPortActive  EventType = 9
	EventPortError   EventType = 10
	EventLastWQE     EventType = 16
	EventGIDChange   EventType = 18
)
