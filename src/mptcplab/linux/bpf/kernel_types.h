/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * What the coupled congestion controls see of the kernel.
 *
 * Types have the members that are used, by the kernel's names: where these lie in the running kernel, and of which
 * size they are, is settled when the object is loaded (CO-RE). So neither headers of a kernel nor of libbpf are needed.
 */
#ifndef KERNEL_TYPES_H
#define KERNEL_TYPES_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline)) inline

enum { TCP_ESTABLISHED = 1, TCP_CLOSE_WAIT = 8 }; /* include/net/tcp_states.h: the states in which one may send */
enum { TCP_CONG_NON_RESTRICTED = 1 };             /* include/net/tcp.h */

#ifdef __bpf__
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#endif

struct list_head {
	struct list_head *next;
};

struct sock_common {
	volatile unsigned char skc_state;
};

struct sock {
	struct sock_common __sk_common;
};

struct inet_connection_sock {
	const struct tcp_congestion_ops *icsk_ca_ops;
	void *icsk_ulp_data;
	u64 icsk_ca_priv[13];
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u32 snd_cwnd;
	u32 snd_ssthresh;
	u32 snd_cwnd_clamp;
	u32 prior_cwnd;
	u32 srtt_us; /* in eighths of a microsecond */
	u32 mss_cache;
	u32 delivered;
	u32 packets_out;
	u32 max_packets_out; /* in this window of data, where the window did not limit */
	u8 is_cwnd_limited : 1;
	_Bool is_mptcp;
};

struct mptcp_sock {
	struct list_head conn_list;
};

struct mptcp_subflow_context {
	struct list_head node;
	struct sock *conn;
	struct sock *tcp_sock;
};

#ifdef __bpf__
#pragma clang attribute pop
#endif

/* The members that are used, for libbpf to match with the kernel's by name. */
struct tcp_congestion_ops {
	char name[16];
	u32 flags;
	void (*init)(struct sock *sk);
	u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, u32 ack, u32 acked);
	u32 (*undo_cwnd)(struct sock *sk);
};

#ifdef __bpf__

/* include/uapi/linux/bpf.h: helper number 181 */
static long (*bpf_loop)(u32 count, void *callback, void *context, u64 flags) = (void *)181;

/* kernel/bpf/helpers.c: a pointer through which one may read, and reads zero where there is nothing */
extern void *bpf_rdonly_cast(const void *object, u32 type) __attribute__((section(".ksyms")));

#define TARGET_TYPE 1 /* of __builtin_btf_type_id: the type in the kernel's BTF */
#define READ_ONLY(type, pointer) \
	((const type *)bpf_rdonly_cast(pointer, __builtin_btf_type_id(*(type *)0, TARGET_TYPE)))

/* of __builtin_preserve_field_info */
enum { FIELD_BYTE_OFFSET = 0, FIELD_LSHIFT = 4, FIELD_RSHIFT = 5 };
#define FIELD(object, member, what) __builtin_preserve_field_info((object)->member, what)
#define OFFSET(type, member) FIELD((type *)0, member, FIELD_BYTE_OFFSET)

/* Return a field of one bit. */
#define BIT(object, member) \
	((u64)*((const u8 *)(object) + FIELD(object, member, FIELD_BYTE_OFFSET)) \
		 << FIELD(object, member, FIELD_LSHIFT) >> FIELD(object, member, FIELD_RSHIFT))

#else /* the same in a process, for tests */

static long bpf_loop(u32 count, void *callback, void *context, u64 flags)
{
	u32 index = 0;

	while (index < count && !((int (*)(u32, void *))callback)(index, context))
		index++;
	return (long)(index + flags);
}

#define READ_ONLY(type, pointer) ((const type *)(pointer))
#define OFFSET(type, member) __builtin_offsetof(type, member)
#define BIT(object, member) ((u64)(object)->member)

#endif

#endif
