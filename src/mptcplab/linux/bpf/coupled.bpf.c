/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * LIA, OLIA and BALIA for the subflows of the kernel's MPTCP, as TCP congestion controls by BPF struct_ops.
 *
 * They compute what mptcplab's own stack does (mptcplab/stack/congestion: lia.py, olia.py, balia.py, where the sources
 * are named): RFC 6356; Khalili et al., CoNEXT 2012; draft-walid-mptcp-congestion-control-04. Slow start, the window's
 * use and the fall to one packet at a timeout are the kernel's and Reno's.
 *
 * One thing is other than there: a sibling counts with the part of its window that it uses (window_in_use).
 *
 * A subflow finds its siblings through its connection (struct mptcp_sock, conn_list). It reads them without their
 * locks, under RCU: a sibling that is just going away may count once more, or not.
 *
 * Numbers. Windows are in bytes, as in the RFC, since subflows may differ in MSS. A rate x is window/rtt, scaled by
 * RATE_SHIFT; only ratios of rates are used. A growth is in packets, scaled by PACKET_SHIFT; what is less than a
 * packet is carried along, and belongs to the window: without it windows of a few packets would lose half a packet at
 * each loss.
 */
#include "kernel_types.h"

enum { RATE_SHIFT = 24, RATIO_SHIFT = 16, PACKET_SHIFT = 40 };

#define ONE_RATIO (1ULL << RATIO_SHIFT)
#define MOST_RATE (1ULL << 41)   /* about 1 TB/s: the sum of 64 times RATIO_SHIFT stays in 64 bits */
#define MOST_GROWTH (1ULL << 46) /* a packet for each of a smaller sibling's; times RATIO_SHIFT in 64 bits */
#define MOST_WINDOW (0xffffffffULL)
#define MOST_ALPHA (1ULL << 40)  /* a ratio of 2^24 */
#define MOST_SUBFLOWS 64

/* What a subflow remembers, in icsk_ca_priv. */
struct state {
	s64 carry;          /* less than a packet, by PACKET_SHIFT; of the window, or still to be taken from it */
	u64 at_last_loss;   /* tcp_sock.delivered when the last loss was noticed */
	u64 between_losses; /* packets delivered between the last two (OLIA) */
};

struct survey {
	const struct list_head *node;
	const struct list_head *head;
	const struct tcp_congestion_ops *ops;
	u64 members;
	u64 rate_sum;
	u64 rate_max;
	u64 steepest;   /* x/rtt at its largest (LIA) */
	u64 steepest_rate;
	u64 steepest_window;
	u64 largest;    /* window */
	u64 best_distance; /* of the subflow with the largest distance/rtt^2 */
	u64 best_rtt;
	u64 with_largest;
	u64 collected;
};

struct subflow {
	u64 window;
	u64 rtt;
	u64 distance; /* OLIA's l */
};

/*
 * Of two numbers below 2^63, without a branch: the verifier follows each way through a loop, with what is known of
 * each number on it, and gives up where there are too many.
 */
INLINE u64 at_most(u64 value, u64 bound)
{
	u64 above = value - bound, mask = (s64)above >> 63;

	__asm__ volatile("" : "+r"(mask));
	return bound + (above & mask);
}

INLINE u64 at_least(u64 value, u64 bound)
{
	u64 above = value - bound, mask = ~((s64)above >> 63);

	__asm__ volatile("" : "+r"(mask));
	return bound + (above & mask);
}

/* Return 0, which the verifier does not know, so that it sees the loop's first round as any other. */
INLINE u64 nothing(u64 unknown)
{
	u64 same = unknown;

	__asm__ volatile("" : "+r"(same));
	return unknown - same;
}

INLINE struct state *state_of(struct tcp_sock *tp)
{
	return (struct state *)tp->inet_conn.icsk_ca_priv;
}

/* Return a window in bytes, with the part of a packet that is carried along. */
INLINE u64 window_bytes(u64 packets, s64 carry, u64 mss)
{
	s64 bytes = (s64)(packets * mss) + ((carry * (s64)mss) >> PACKET_SHIFT);

	return at_most(bytes, MOST_WINDOW) | 1;
}

INLINE u64 rate(u64 window, u64 rtt)
{
	return at_most((window << RATE_SHIFT) / rtt, MOST_RATE) | 1;
}

/* Compare a * b * b with c * d * d, where b and d have 32 bits at most; return whether the first is larger. */
INLINE int larger(u64 a, u64 b, u64 c, u64 d)
{
	u64 bb = b * b, dd = d * d;
	u64 a_low = (u32)a * (bb & 0xffffffff), c_low = (u32)c * (dd & 0xffffffff);
	u64 a_mid = (u32)a * (bb >> 32) + (a_low >> 32), c_mid = (u32)c * (dd >> 32) + (c_low >> 32);
	u64 a_mid2 = (a >> 32) * (bb & 0xffffffff) + (u32)a_mid, c_mid2 = (c >> 32) * (dd & 0xffffffff) + (u32)c_mid;
	u64 a_high = (a >> 32) * (bb >> 32) + (a_mid >> 32) + (a_mid2 >> 32);
	u64 c_high = (c >> 32) * (dd >> 32) + (c_mid >> 32) + (c_mid2 >> 32);

	u64 a_rest = a_mid2 << 32 | (u32)a_low, c_rest = c_mid2 << 32 | (u32)c_low;

	return a_high > c_high || (a_high == c_high && a_rest > c_rest);
}

/*
 * Return how much of its window a subflow uses, in packets.
 *
 * The kernel's MPTCP gives data to subflows long before they are sent, and does not take them back. So one that has
 * sent its part stands idle, with a window as it was, while another, with a small window, holds what the peer waits
 * for. If the former's whole window counted, the latter's would hardly grow, and both would stay as they are for
 * seconds. What is not used is no rate: it counts with what it has sent of late.
 */
INLINE u64 window_in_use(const struct tcp_sock *tp)
{
	u64 used = BIT(tp, is_cwnd_limited) ? tp->snd_cwnd : tp->max_packets_out;

	return at_least(at_most(tp->packets_out ? used : 0, tp->snd_cwnd), 1);
}

/* Read the next sibling; return 1 where the walk is over, and rtt 0 where the sibling does not count. */
INLINE int next_subflow(struct survey *all, struct subflow *one)
{
	const struct mptcp_subflow_context *context;
	const struct list_head *node = READ_ONLY(struct list_head, all->node);
	const struct tcp_sock *tp;
	u64 packets, mss, distance = 0;
	s64 carry = 0;

	one->rtt = 0;
	if (!all->node || all->node == all->head)
		return 1;
	all->node = node->next;
	context = (const void *)((u64)node - OFFSET(struct mptcp_subflow_context, node));
	context = READ_ONLY(struct mptcp_subflow_context, context);
	tp = READ_ONLY(struct tcp_sock, context->tcp_sock);
	u8 state = READ_ONLY(struct sock, context->tcp_sock)->__sk_common.skc_state;
	if (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT)
		return 0;
	packets = window_in_use(tp);
	mss = tp->mss_cache;
	if (tp->inet_conn.icsk_ca_ops == all->ops) {
		const u64 *theirs = tp->inet_conn.icsk_ca_priv;

		carry = (s64)theirs[0];
		distance = at_least((u32)(tp->delivered - (u32)theirs[1]), theirs[2]) * mss;
	}
	one->window = window_bytes(packets, carry, mss);
	one->rtt = tp->srtt_us;
	one->distance = distance;
	return 0;
}

static int add_subflow(u32 index, struct survey *all)
{
	struct subflow one;
	u64 x, per_rtt;

	if (next_subflow(all, &one))
		return 1;
	if (!one.rtt)
		return 0;
	x = rate(one.window, one.rtt);
	all->members += 1;
	all->rate_sum += x;
	all->rate_max = at_least(all->rate_max, x);
	per_rtt = (x << 20) / one.rtt;
	if (per_rtt >= all->steepest) {
		all->steepest = per_rtt;
		all->steepest_rate = x;
		all->steepest_window = one.window;
	}
	all->largest = at_least(all->largest, one.window);
	/* distance/rtt^2 > best/best_rtt^2 */
	if (!all->best_rtt || larger(one.distance, all->best_rtt, all->best_distance, one.rtt)) {
		all->best_distance = one.distance;
		all->best_rtt = one.rtt;
	}
	return 0;
}

static int count_subflow(u32 index, struct survey *all)
{
	struct subflow one;

	if (next_subflow(all, &one))
		return 1;
	if (!one.rtt)
		return 0;
	if (one.window == all->largest)
		all->with_largest += 1;
	else if (!larger(all->best_distance, one.rtt, one.distance, all->best_rtt))
		all->collected += 1;
	return 0;
}

/* Look at all subflows of a connection; return 0 where this is one alone, such as of plain TCP. */
INLINE int survey(struct tcp_sock *tp, struct survey *all)
{
	const struct mptcp_subflow_context *context;
	const struct mptcp_sock *connection;
	u64 zero = nothing(state_of(tp)->at_last_loss);

	all->members = all->rate_sum = all->rate_max = zero;
	all->steepest = all->steepest_rate = all->steepest_window = zero;
	all->largest = all->best_distance = all->best_rtt = zero;
	all->with_largest = all->collected = zero;
	if (!tp->is_mptcp || !tp->srtt_us)
		return 0;
	context = READ_ONLY(struct mptcp_subflow_context, tp->inet_conn.icsk_ulp_data);
	connection = READ_ONLY(struct mptcp_sock, context->conn);
	all->ops = tp->inet_conn.icsk_ca_ops;
	all->head = (const void *)((u64)connection + OFFSET(struct mptcp_sock, conn_list));
	all->node = connection->conn_list.next;
	bpf_loop(MOST_SUBFLOWS, add_subflow, all, 0);
	return all->members > 1;
}

/* Return MSS/window: the growth of TCP for each packet that is acknowledged. */
INLINE u64 alone(u64 mss, u64 window)
{
	return at_most((mss << PACKET_SHIFT) / at_least(window, 1), MOST_GROWTH);
}

/* Return growth / ratio^2, for a ratio of one or more. */
INLINE u64 divided_twice(u64 growth, u64 ratio)
{
	ratio = at_least(ratio, ONE_RATIO);
	return ((growth << RATIO_SHIFT) / ratio << RATIO_SHIFT) / ratio;
}

INLINE u64 times(u64 growth, u64 ratio)
{
	return (growth * ratio) >> RATIO_SHIFT;
}

INLINE u64 own_window(struct tcp_sock *tp)
{
	return window_bytes(tp->snd_cwnd, state_of(tp)->carry, tp->mss_cache);
}

/*
 * RFC 6356, equation 1: min(alpha / cwnd_total, 1 / cwnd_i). By equation 2 alpha / cwnd_total is
 * max(w/rtt^2) / (sum w/rtt)^2 = 1/w* / (sum x / x*)^2, with the subflow * that has the maximum.
 */
INLINE s64 lia_growth(struct tcp_sock *tp)
{
	u64 mss = tp->mss_cache, growth = alone(mss, own_window(tp)), linked;
	struct survey all;

	if (!survey(tp, &all))
		return growth;
	linked = alone(mss, all.steepest_window);
	linked = divided_twice(linked, (all.rate_sum << RATIO_SHIFT) / at_least(all.steepest_rate, 1));
	return at_most(growth, linked);
}

/*
 * Khalili et al.: w/rtt^2 / (sum w/rtt)^2 + a/w, where the first term is 1/w / (sum x / x_i)^2, and a is 1/(n collected)
 * for the best subflows that have not the largest window, -1/(n largest) for those that have, while there are others.
 */
INLINE s64 olia_growth(struct tcp_sock *tp)
{
	u64 window = own_window(tp), mss = tp->mss_cache, growth = alone(mss, window), linked;
	struct state *own = state_of(tp);
	struct survey all;
	u64 distance;

	if (!survey(tp, &all))
		return growth;
	linked = divided_twice(growth, (all.rate_sum << RATIO_SHIFT) / rate(window, tp->srtt_us));
	all.node = READ_ONLY(struct list_head, all.head)->next;
	bpf_loop(MOST_SUBFLOWS, count_subflow, &all, 0);
	if (!all.collected || !all.with_largest)
		return linked;
	if (window >= all.largest)
		return (s64)linked - (s64)(growth / (all.members * all.with_largest));
	distance = at_least((u32)(tp->delivered - (u32)own->at_last_loss), own->between_losses) * mss;
	if (!larger(all.best_distance, tp->srtt_us, distance, all.best_rtt))
		return linked + growth / (all.members * all.collected);
	return linked;
}

/* draft-walid: x/(rtt (sum x)^2) (1+a)/2 (4+a)/5, a = max x / x_i; each of the last two divided by sum x / x_i. */
INLINE s64 balia_growth(struct tcp_sock *tp)
{
	u64 window = own_window(tp), growth = alone(tp->mss_cache, window);
	struct survey all;
	u64 x, sum, alpha;

	if (!survey(tp, &all))
		return growth;
	x = rate(window, tp->srtt_us);
	sum = at_least((all.rate_sum << RATIO_SHIFT) / x, ONE_RATIO);
	alpha = at_most(at_least((all.rate_max << RATIO_SHIFT) / x, ONE_RATIO), MOST_ALPHA);
	growth = times(growth, ((ONE_RATIO + alpha) << RATIO_SHIFT) / sum);
	return times(growth, ((4 * ONE_RATIO + alpha) << RATIO_SHIFT) / sum) / 10;
}

/* Whether the window held sending back (tcp_is_cwnd_limited of include/net/tcp.h). */
INLINE int window_was_used(struct tcp_sock *tp)
{
	if (tp->snd_cwnd < tp->snd_ssthresh)
		return tp->snd_cwnd < 2 * tp->max_packets_out;
	return BIT(tp, is_cwnd_limited) != 0;
}

/* Slow start up to ssthresh; return how many of the acknowledged packets are left for congestion avoidance. */
INLINE u32 slow_start(struct tcp_sock *tp, u32 acked)
{
	u32 room;

	if (!window_was_used(tp))
		return 0;
	if (tp->snd_cwnd >= tp->snd_ssthresh)
		return acked;
	room = at_most(acked, tp->snd_ssthresh - tp->snd_cwnd);
	tp->snd_cwnd = at_most(tp->snd_cwnd + room, tp->snd_cwnd_clamp);
	return acked - room;
}

INLINE void grow(struct tcp_sock *tp, s64 growth, u32 acked)
{
	struct state *own = state_of(tp);
	s64 carry = own->carry + growth * at_most(acked, 1 << 16);
	u64 whole;

	if (carry >= 0) {
		whole = (u64)carry >> PACKET_SHIFT;
		tp->snd_cwnd = at_most(tp->snd_cwnd + whole, tp->snd_cwnd_clamp);
		own->carry = carry - (s64)(whole << PACKET_SHIFT);
		return;
	}
	/* OLIA takes: the window is never less than a packet */
	whole = (u64)-carry >> PACKET_SHIFT;
	if (whole + 1 >= tp->snd_cwnd) {
		tp->snd_cwnd = 1;
		own->carry = 0;
		return;
	}
	tp->snd_cwnd -= whole;
	own->carry = carry + (s64)(whole << PACKET_SHIFT);
}

/* After a loss: return the window, here by RATIO_SHIFT, in whole packets, two at least; the rest is carried along. */
INLINE u32 reduced(struct tcp_sock *tp, u64 window)
{
	struct state *own = state_of(tp);
	u32 delivered = tp->delivered;

	if (delivered != (u32)own->at_last_loss) {
		own->between_losses = (u32)(delivered - (u32)own->at_last_loss);
		own->at_last_loss = delivered;
	}
	own->carry = window < 2 * ONE_RATIO ? 0 : (window & (ONE_RATIO - 1)) << (PACKET_SHIFT - RATIO_SHIFT);
	return at_least(window >> RATIO_SHIFT, 2);
}

/* Return the window in packets, by RATIO_SHIFT. */
INLINE u64 window_packets(struct tcp_sock *tp)
{
	s64 packets = (s64)tp->snd_cwnd << RATIO_SHIFT;

	return packets + (state_of(tp)->carry >> (PACKET_SHIFT - RATIO_SHIFT));
}

SEC("struct_ops/coupled_init")
void coupled_init(u64 *arguments)
{
	struct tcp_sock *tp = (struct tcp_sock *)arguments[0];
	struct state *own = state_of(tp);

	own->carry = 0;
	own->at_last_loss = tp->delivered;
	own->between_losses = 0;
}

SEC("struct_ops/coupled_undo")
u32 coupled_undo(u64 *arguments)
{
	struct tcp_sock *tp = (struct tcp_sock *)arguments[0];

	return at_least(tp->snd_cwnd, tp->prior_cwnd);
}

SEC("struct_ops/half")
u32 half(u64 *arguments)
{
	struct tcp_sock *tp = (struct tcp_sock *)arguments[0];

	return reduced(tp, window_packets(tp) / 2);
}

/* draft-walid: w/2 min(a, 3/2) off. */
SEC("struct_ops/balia_ssthresh")
u32 balia_ssthresh(u64 *arguments)
{
	struct tcp_sock *tp = (struct tcp_sock *)arguments[0];
	u64 window = window_packets(tp), alpha = ONE_RATIO;
	struct survey all;

	if (survey(tp, &all))
		alpha = (all.rate_max << RATIO_SHIFT) / rate(own_window(tp), tp->srtt_us);
	alpha = at_most(at_least(alpha, ONE_RATIO), ONE_RATIO * 3 / 2);
	return reduced(tp, window - times(window / 2, alpha));
}

#define AVOID(control)                                                \
	SEC("struct_ops/" #control "_avoid")                          \
	void control##_avoid(u64 *arguments)                          \
	{                                                             \
		struct tcp_sock *tp = (struct tcp_sock *)arguments[0]; \
		u32 acked = slow_start(tp, arguments[2]);             \
                                                                      \
		if (acked)                                            \
			grow(tp, control##_growth(tp), acked);        \
	}

AVOID(lia)
AVOID(olia)
AVOID(balia)

#define COUPLED(control, on_loss)                                     \
	SEC(".struct_ops")                                            \
	struct tcp_congestion_ops control = {                         \
		.name = #control,                                     \
		.flags = TCP_CONG_NON_RESTRICTED,                     \
		.init = (void *)coupled_init,                         \
		.ssthresh = (void *)on_loss,                          \
		.cong_avoid = (void *)control##_avoid,                \
		.undo_cwnd = (void *)coupled_undo,                    \
	}

COUPLED(lia, half);
COUPLED(olia, half);
COUPLED(balia, balia_ssthresh);

SEC("license") const char license_text[] = "Dual MIT/GPL";
