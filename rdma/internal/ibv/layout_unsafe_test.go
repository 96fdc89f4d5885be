package ibv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

type member struct {
	name         string // of a structure or a member, as C says it
	offset, size uintptr
}

// mirrored is what the Go side believes.
func mirrored() []member {
	var (
		dev  DeviceAttr
		port PortAttr
		cap  QPCap
		init QPInitAttr
		ah   AH
		qp   QPAttr
		sge  SGE
		wr   SendWR
		wc   WC
		gid  GIDEntry
		ev   AsyncEvent
	)
	return []member{
		{"ibv_device.name", deviceName, deviceNameLength},
		{"ibv_context.ops.poll_cq", contextPollCQ, 8},
		{"ibv_context.ops.req_notify_cq", contextNotifyCQ, 8},
		{"ibv_context.ops.post_send", contextPostSend, 8},
		{"ibv_context.async_fd", contextAsyncFD, 4},
		{"ibv_cq.context", cqContext, 8},
		{"ibv_qp.context", qpContext, 8},
		{"ibv_qp.qp_num", qpNumber, 4},
		{"ibv_mr.lkey", mrLKey, 4},
		{"ibv_mr.rkey", mrRKey, 4},
		{"ibv_comp_channel.fd", channelFD, 4},

		{"ibv_device_attr", 0, unsafe.Sizeof(dev)},
		{"ibv_device_attr.fw_ver", unsafe.Offsetof(dev.FirmwareVersion), unsafe.Sizeof(dev.FirmwareVersion)},
		{"ibv_device_attr.node_guid", unsafe.Offsetof(dev.NodeGUID), 8},
		{"ibv_device_attr.max_mr_size", unsafe.Offsetof(dev.MaxMRSize), 8},
		{"ibv_device_attr.page_size_cap", unsafe.Offsetof(dev.PageSizes), 8},
		{"ibv_device_attr.vendor_id", unsafe.Offsetof(dev.VendorID), 4},
		{"ibv_device_attr.vendor_part_id", unsafe.Offsetof(dev.VendorPartID), 4},
		{"ibv_device_attr.max_qp", unsafe.Offsetof(dev.MaxQP), 4},
		{"ibv_device_attr.max_qp_wr", unsafe.Offsetof(dev.MaxQPWR), 4},
		{"ibv_device_attr.device_cap_flags", unsafe.Offsetof(dev.CapFlags), 4},
		{"ibv_device_attr.max_sge", unsafe.Offsetof(dev.MaxSGE), 4},
		{"ibv_device_attr.max_sge_rd", unsafe.Offsetof(dev.MaxSGERead), 4},
		{"ibv_device_attr.max_cq", unsafe.Offsetof(dev.MaxCQ), 4},
		{"ibv_device_attr.max_cqe", unsafe.Offsetof(dev.MaxCQE), 4},
		{"ibv_device_attr.max_mr", unsafe.Offsetof(dev.MaxMR), 4},
		{"ibv_device_attr.max_pd", unsafe.Offsetof(dev.MaxPD), 4},
		{"ibv_device_attr.max_qp_rd_atom", unsafe.Offsetof(dev.MaxQPReadAtomic), 4},
		{"ibv_device_attr.max_res_rd_atom", unsafe.Offsetof(dev.MaxResReadAtomic), 4},
		{"ibv_device_attr.max_qp_init_rd_atom", unsafe.Offsetof(dev.MaxQPInitReadAtomic), 4},
		{"ibv_device_attr.max_pkeys", unsafe.Offsetof(dev.MaxPKeys), 2},
		{"ibv_device_attr.local_ca_ack_delay", unsafe.Offsetof(dev.LocalCAAckDelay), 1},
		{"ibv_device_attr.phys_port_cnt", unsafe.Offsetof(dev.Ports), 1},

		{"ibv_port_attr.state", unsafe.Offsetof(port.State), 4},
		{"ibv_port_attr.max_mtu", unsafe.Offsetof(port.MaxMTU), 4},
		{"ibv_port_attr.active_mtu", unsafe.Offsetof(port.ActiveMTU), 4},
		{"ibv_port_attr.gid_tbl_len", unsafe.Offsetof(port.GIDTableLen), 4},
		{"ibv_port_attr.port_cap_flags", unsafe.Offsetof(port.CapFlags), 4},
		{"ibv_port_attr.max_msg_sz", unsafe.Offsetof(port.MaxMessage), 4},
		{"ibv_port_attr.pkey_tbl_len", unsafe.Offsetof(port.PKeyTableLen), 2},
		{"ibv_port_attr.lid", unsafe.Offsetof(port.LID), 2},
		{"ibv_port_attr.sm_lid", unsafe.Offsetof(port.SMLID), 2},
		{"ibv_port_attr.lmc", unsafe.Offsetof(port.LMC), 1},
		{"ibv_port_attr.active_width", unsafe.Offsetof(port.ActiveWidth), 1},
		{"ibv_port_attr.active_speed", unsafe.Offsetof(port.ActiveSpeed), 1},
		{"ibv_port_attr.phys_state", unsafe.Offsetof(port.PhysState), 1},
		{"ibv_port_attr.link_layer", unsafe.Offsetof(port.LinkLayer), 1},

		{"ibv_qp_cap", 0, unsafe.Sizeof(cap)},
		{"ibv_qp_cap.max_send_wr", unsafe.Offsetof(cap.MaxSendWR), 4},
		{"ibv_qp_cap.max_recv_wr", unsafe.Offsetof(cap.MaxRecvWR), 4},
		{"ibv_qp_cap.max_send_sge", unsafe.Offsetof(cap.MaxSendSGE), 4},
		{"ibv_qp_cap.max_recv_sge", unsafe.Offsetof(cap.MaxRecvSGE), 4},
		{"ibv_qp_cap.max_inline_data", unsafe.Offsetof(cap.MaxInline), 4},

		{"ibv_qp_init_attr", 0, unsafe.Sizeof(init)},
		{"ibv_qp_init_attr.send_cq", unsafe.Offsetof(init.SendCQ), 8},
		{"ibv_qp_init_attr.recv_cq", unsafe.Offsetof(init.RecvCQ), 8},
		{"ibv_qp_init_attr.srq", unsafe.Offsetof(init.SRQ), 8},
		{"ibv_qp_init_attr.cap", unsafe.Offsetof(init.Cap), 20},
		{"ibv_qp_init_attr.qp_type", unsafe.Offsetof(init.Type), 4},
		{"ibv_qp_init_attr.sq_sig_all", unsafe.Offsetof(init.SigAll), 4},

		{"ibv_ah_attr", 0, unsafe.Sizeof(ah)},
		{"ibv_ah_attr.grh.dgid", unsafe.Offsetof(ah.DGID), 16},
		{"ibv_ah_attr.grh.flow_label", unsafe.Offsetof(ah.FlowLabel), 4},
		{"ibv_ah_attr.grh.sgid_index", unsafe.Offsetof(ah.SGIDIndex), 1},
		{"ibv_ah_attr.grh.hop_limit", unsafe.Offsetof(ah.HopLimit), 1},
		{"ibv_ah_attr.grh.traffic_class", unsafe.Offsetof(ah.TrafficClass), 1},
		{"ibv_ah_attr.dlid", unsafe.Offsetof(ah.DLID), 2},
		{"ibv_ah_attr.sl", unsafe.Offsetof(ah.SL), 1},
		{"ibv_ah_attr.src_path_bits", unsafe.Offsetof(ah.SrcPathBits), 1},
		{"ibv_ah_attr.static_rate", unsafe.Offsetof(ah.StaticRate), 1},
		{"ibv_ah_attr.is_global", unsafe.Offsetof(ah.IsGlobal), 1},
		{"ibv_ah_attr.port_num", unsafe.Offsetof(ah.Port), 1},

		{"ibv_qp_attr", 0, unsafe.Sizeof(qp)},
		{"ibv_qp_attr.qp_state", unsafe.Offsetof(qp.State), 4},
		{"ibv_qp_attr.cur_qp_state", unsafe.Offsetof(qp.CurrentState), 4},
		{"ibv_qp_attr.path_mtu", unsafe.Offsetof(qp.PathMTU), 4},
		{"ibv_qp_attr.path_mig_state", unsafe.Offsetof(qp.PathMigration), 4},
		{"ibv_qp_attr.qkey", unsafe.Offsetof(qp.QKey), 4},
		{"ibv_qp_attr.rq_psn", unsafe.Offsetof(qp.RQPSN), 4},
		{"ibv_qp_attr.sq_psn", unsafe.Offsetof(qp.SQPSN), 4},
		{"ibv_qp_attr.dest_qp_num", unsafe.Offsetof(qp.DestQPN), 4},
		{"ibv_qp_attr.qp_access_flags", unsafe.Offsetof(qp.Access), 4},
		{"ibv_qp_attr.cap", unsafe.Offsetof(qp.Cap), 20},
		{"ibv_qp_attr.ah_attr", unsafe.Offsetof(qp.AH), 32},
		{"ibv_qp_attr.alt_ah_attr", unsafe.Offsetof(qp.AltAH), 32},
		{"ibv_qp_attr.pkey_index", unsafe.Offsetof(qp.PKeyIndex), 2},
		{"ibv_qp_attr.en_sqd_async_notify", unsafe.Offsetof(qp.SQDNotify), 1},
		{"ibv_qp_attr.max_rd_atomic", unsafe.Offsetof(qp.MaxReadAtomic), 1},
		{"ibv_qp_attr.max_dest_rd_atomic", unsafe.Offsetof(qp.MaxDestReadAtomic), 1},
		{"ibv_qp_attr.min_rnr_timer", unsafe.Offsetof(qp.MinRNRTimer), 1},
		{"ibv_qp_attr.port_num", unsafe.Offsetof(qp.Port), 1},
		{"ibv_qp_attr.timeout", unsafe.Offsetof(qp.Timeout), 1},
		{"ibv_qp_attr.retry_cnt", unsafe.Offsetof(qp.RetryCount), 1},
		{"ibv_qp_attr.rnr_retry", unsafe.Offsetof(qp.RNRRetry), 1},
		{"ibv_qp_attr.alt_timeout", unsafe.Offsetof(qp.AltTimeout), 1},

		{"ibv_sge", 0, unsafe.Sizeof(sge)},
		{"ibv_sge.addr", unsafe.Offsetof(sge.Addr), 8},
		{"ibv_sge.length", unsafe.Offsetof(sge.Len), 4},
		{"ibv_sge.lkey", unsafe.Offsetof(sge.LKey), 4},

		{"ibv_send_wr", 0, unsafe.Sizeof(wr)},
		{"ibv_send_wr.wr_id", unsafe.Offsetof(wr.ID), 8},
		{"ibv_send_wr.next", unsafe.Offsetof(wr.Next), 8},
		{"ibv_send_wr.sg_list", unsafe.Offsetof(wr.SGList), 8},
		{"ibv_send_wr.num_sge", unsafe.Offsetof(wr.NumSGE), 4},
		{"ibv_send_wr.opcode", unsafe.Offsetof(wr.Opcode), 4},
		{"ibv_send_wr.send_flags", unsafe.Offsetof(wr.Flags), 4},
		{"ibv_send_wr.imm_data", unsafe.Offsetof(wr.Imm), 4},
		{"ibv_send_wr.wr.rdma.remote_addr", unsafe.Offsetof(wr.Remote), 8},
		{"ibv_send_wr.wr.rdma.rkey", unsafe.Offsetof(wr.RKey), 4},

		{"ibv_wc", 0, unsafe.Sizeof(wc)},
		{"ibv_wc.wr_id", unsafe.Offsetof(wc.ID), 8},
		{"ibv_wc.status", unsafe.Offsetof(wc.Status), 4},
		{"ibv_wc.opcode", unsafe.Offsetof(wc.Opcode), 4},
		{"ibv_wc.vendor_err", unsafe.Offsetof(wc.VendorErr), 4},
		{"ibv_wc.byte_len", unsafe.Offsetof(wc.ByteLen), 4},
		{"ibv_wc.imm_data", unsafe.Offsetof(wc.Imm), 4},
		{"ibv_wc.qp_num", unsafe.Offsetof(wc.QPN), 4},
		{"ibv_wc.src_qp", unsafe.Offsetof(wc.SrcQP), 4},
		{"ibv_wc.wc_flags", unsafe.Offsetof(wc.Flags), 4},
		{"ibv_wc.dlid_path_bits", unsafe.Offsetof(wc.PathBits), 1},

		{"ibv_gid_entry", 0, unsafe.Sizeof(gid)},
		{"ibv_gid_entry.gid", unsafe.Offsetof(gid.GID), 16},
		{"ibv_gid_entry.gid_index", unsafe.Offsetof(gid.Index), 4},
		{"ibv_gid_entry.port_num", unsafe.Offsetof(gid.Port), 4},
		{"ibv_gid_entry.gid_type", unsafe.Offsetof(gid.Type), 4},
		{"ibv_gid_entry.ndev_ifindex", unsafe.Offsetof(gid.Ifindex), 4},

		{"ibv_async_event", 0, unsafe.Sizeof(ev)},
		{"ibv_async_event.element", unsafe.Offsetof(ev.Element), 8},
		{"ibv_async_event.event_type", unsafe.Offsetof(ev.Type), 4},
	}
}

var constants = map[string]int{
	"IBV_QPT_RC": TypeRC, "IBV_QPS_RESET": StateReset, "IBV_QPS_INIT": StateInit, "IBV_QPS_RTR": StateRTR,
	"IBV_QPS_RTS": StateRTS, "IBV_QPS_ERR": StateError,
	"IBV_QP_STATE": AttrState, "IBV_QP_ACCESS_FLAGS": AttrAccess, "IBV_QP_PKEY_INDEX": AttrPKeyIndex, "IBV_QP_PORT": AttrPort,
	"IBV_QP_AV": AttrAV, "IBV_QP_PATH_MTU": AttrPathMTU, "IBV_QP_TIMEOUT": AttrTimeout, "IBV_QP_RETRY_CNT": AttrRetryCount,
	"IBV_QP_RNR_RETRY": AttrRNRRetry, "IBV_QP_RQ_PSN": AttrRQPSN, "IBV_QP_MAX_QP_RD_ATOMIC": AttrMaxReadAtomic,
	"IBV_QP_MIN_RNR_TIMER": AttrMinRNRTimer, "IBV_QP_SQ_PSN": AttrSQPSN,
	"IBV_QP_MAX_DEST_RD_ATOMIC": AttrMaxDestReadAtomic, "IBV_QP_DEST_QPN": AttrDestQPN,
	"IBV_ACCESS_LOCAL_WRITE": AccessLocalWrite, "IBV_ACCESS_REMOTE_READ": AccessRemoteRead,
	"IBV_WR_RDMA_READ": OpRead, "IBV_SEND_SIGNALED": SendSignaled, "IBV_MTU_256": MTU256, "IBV_MTU_4096": MTU4096,
	"IBV_PORT_ACTIVE": PortActive, "IBV_LINK_LAYER_INFINIBAND": LinkInfiniBand, "IBV_LINK_LAYER_ETHERNET": LinkEthernet,
	"IBV_GID_TYPE_IB": GIDTypeIB, "IBV_GID_TYPE_ROCE_V1": GIDTypeRoCEv1, "IBV_GID_TYPE_ROCE_V2": GIDTypeRoCEv2,
	"IBV_WC_SUCCESS": int(Success), "IBV_WC_LOC_LEN_ERR": int(LocalLength), "IBV_WC_LOC_QP_OP_ERR": int(LocalOperation),
	"IBV_WC_LOC_PROT_ERR": int(LocalProtection), "IBV_WC_WR_FLUSH_ERR": int(Flushed), "IBV_WC_LOC_ACCESS_ERR": int(LocalAccess),
	"IBV_WC_REM_INV_REQ_ERR": int(RemoteInvalid), "IBV_WC_REM_ACCESS_ERR": int(RemoteAccess),
	"IBV_WC_REM_OP_ERR": int(RemoteOperation), "IBV_WC_RETRY_EXC_ERR": int(RetryExceeded),
	"IBV_WC_RNR_RETRY_EXC_ERR": int(RNRExceeded), "IBV_WC_FATAL_ERR": int(Fatal), "IBV_WC_GENERAL_ERR": int(GeneralError),
	"IBV_EVENT_CQ_ERR": int(EventCQError), "IBV_EVENT_QP_FATAL": int(EventQPFatal), "IBV_EVENT_QP_REQ_ERR": int(EventQPRequest),
	"IBV_EVENT_QP_ACCESS_ERR": int(EventQPAccess), "IBV_EVENT_DEVICE_FATAL": int(EventDeviceFatal),
	"IBV_EVENT_PORT_ACTIVE": int(EventPortActive), "IBV_EVENT_PORT_ERR": int(EventPortError),
	"IBV_EVENT_QP_LAST_WQE_REACHED": int(EventLastWQE), "IBV_EVENT_GID_CHANGE": int(EventGIDChange),
}

// probe compiles and runs a program that prints what C knows of each name, one a line.
func probe(t *testing.T, header string) map[string]string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "#include <stdio.h>\n#include <stddef.h>\n#include %s\nint main(void) {\n", header)
	for _, m := range mirrored() {
		if s, f, ok := strings.Cut(m.name, "."); ok {
			fmt.Fprintf(&b, "printf(\"%s %%zu:%%zu\\n\", offsetof(struct %s, %s), sizeof(((struct %s *)0)->%s));\n", m.name, s, f, s, f)
		} else {
			fmt.Fprintf(&b, "printf(\"%s 0:%%zu\\n\", sizeof(struct %s));\n", m.name, m.name)
		}
	}
	for name := range constants {
		fmt.Fprintf(&b, "printf(\"%s %%d\\n\", (int)%s);\n", name, name)
	}
	b.WriteString("return 0; }\n")
	dir := t.TempDir()
	source, program := filepath.Join(dir, "probe.c"), filepath.Join(dir, "probe")
	require.NoError(t, os.WriteFile(source, []byte(b.String()), 0o600))
	here, err := filepath.Abs("testdata")
	require.NoError(t, err)
	out, err := exec.Command(compiler(), "-I", here, source, "-o", program).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command(program).Output()
	require.NoError(t, err)
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[name] = value
	}
	return said
}

func compiler() string {
	if cc := os.Getenv("CC"); cc != "" {
		return cc
	}
	return "cc"
}

func compareLayout(t *testing.T, header string) {
	said := probe(t, header)
	for _, m := range mirrored() {
		require.Equal(t, said[m.name], fmt.Sprintf("%d:%d", m.offset, m.size), "offset:size of %s", m.name)
	}
	for name, value := range constants {
		require.Equal(t, said[name], fmt.Sprint(value), name)
	}
}

func TestLayoutAgainstOurHeader(t *testing.T) {
	if _, err := exec.LookPath(compiler()); err != nil {
		t.Skipf("probed %s: no C compiler", compiler())
	}
	compareLayout(t, `"layout.h"`)
}

func TestLayoutAgainstTheRealHeader(t *testing.T) {
	program := exec.Command(compiler(), "-xc", "-fsyntax-only", "-")
	program.Stdin = strings.NewReader("#include <infiniband/verbs.h>\n")
	if err := program.Run(); err != nil {
		reason := "probed <infiniband/verbs.h>: not installed (on Debian or Ubuntu: apt-get install libibverbs-dev)"
		if os.Getenv("RDMA_REQUIRED") == "1" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	compareLayout(t, "<infiniband/verbs.h>")
}

// The largest port attributes of any release must fit into the room that QueryPort gives.
func TestRoomForPortAttributes(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(PortAttr{}), uintptr(48))
	require.GreaterOrEqual(t, portAttrReserved, 56)
}
