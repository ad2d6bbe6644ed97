/*
 * The kernel's coupled congestion controls in a process: a connection's subflows are laid out as the kernel has them,
 * and an ACK or a loss is given to one of them.
 */
#include "coupled.bpf.c"

enum { MOST = 8 };

struct given {
	u32 window;     /* packets */
	u32 rtt;        /* in eighths of a microsecond */
	u32 mss;
	u32 since_loss; /* packets */
	u32 between_losses;
	s64 carry; /* by PACKET_SHIFT */
	u32 in_use; /* packets; the whole window where the window limits */
};

struct outcome {
	u32 window;
	s64 carry;
	u32 ssthresh;
};

static struct tcp_sock socks[MOST];
static struct mptcp_subflow_context contexts[MOST];
static struct mptcp_sock connection;

static struct tcp_sock *lay_out(const struct given *given, u32 count, u32 which)
{
	struct list_head *last = &connection.conn_list;

	for (u32 i = 0; i < count; i++) {
		struct tcp_sock *tp = &socks[i];

		__builtin_memset(tp, 0, sizeof(*tp));
		/* struct sock is the beginning of tcp_sock in the kernel; here the socket's ops are there */
		tp->snd_cwnd = given[i].window;
		tp->snd_ssthresh = 1;
		tp->snd_cwnd_clamp = 0xffffffff;
		tp->srtt_us = given[i].rtt;
		tp->mss_cache = given[i].mss;
		tp->delivered = 1000 + given[i].since_loss;
		tp->packets_out = given[i].in_use;
		tp->max_packets_out = given[i].in_use;
		tp->is_cwnd_limited = given[i].in_use >= given[i].window;
		tp->is_mptcp = 1;
		tp->inet_conn.icsk_ca_ops = (const void *)1; /* whose first byte, in this order, is a state */
		tp->inet_conn.icsk_ulp_data = &contexts[i];
		state_of(tp)->carry = given[i].carry;
		state_of(tp)->at_last_loss = 1000;
		state_of(tp)->between_losses = given[i].between_losses;
		contexts[i].conn = (void *)&connection;
		contexts[i].tcp_sock = (void *)tp;
		last->next = &contexts[i].node;
		last = last->next;
	}
	last->next = &connection.conn_list;
	return &socks[which];
}

struct outcome acknowledge(u32 control, const struct given *given, u32 count, u32 which, u32 packets)
{
	struct tcp_sock *tp = lay_out(given, count, which);
	u64 arguments[] = {(u64)tp, 0, packets};

	(control == 0 ? lia_avoid : control == 1 ? olia_avoid : balia_avoid)(arguments);
	return (struct outcome){tp->snd_cwnd, state_of(tp)->carry, 0};
}

struct outcome lose(u32 control, const struct given *given, u32 count, u32 which)
{
	struct tcp_sock *tp = lay_out(given, count, which);
	u64 arguments[] = {(u64)tp};
	u32 ssthresh = (control == 2 ? balia_ssthresh : half)(arguments);

	return (struct outcome){tp->snd_cwnd, state_of(tp)->carry, ssthresh};
}
