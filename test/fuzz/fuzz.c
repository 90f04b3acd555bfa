// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A libFuzzer target: any octets as frames, through the packet path. docs/fuzzing.md says what has to hold.
 *
 * An input is a row of frames that meet the same tables, one after the other. Before each stand two octets:
 *
 * - how far the clock moves before the frame comes (bits 0-4, times 16 to the power of bits 5-6, in jiffies), and on
 *   which CPU it comes (bit 7);
 * - the frame's length; 255: all that is left.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "packetpath.h"

/* What is new is what the packet path has not done before; the checks around it do not count. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

#include "arena.h"
#include "oracle.h"
#include "state.h"

enum { PREFIX_BYTES = 2, LENGTH_REST = 255, MACS_BYTES = 2 * ETH_ALEN, NOTHING = -1 };

struct frame {
	const __u8 *octets;
	size_t size;
};

/* What became of a frame. */
struct outcome {
	int verdict;
	__u32 egress; /* where a redirect leads to; else 0 */
	__u8 frame[FRAME_BYTES_MAX + HEADROOM_BYTES];
	size_t size;
	struct state state;
};

/* Which counters a frame moved: for each group the one that moved, or NOTHING. */
struct moved {
	int reason;
	int flow_reason;
	int client_reason;
	int destination_reason;
	int backend;
	__u64 flows;
};

static __u8 *arena;
static struct frame now_under_test;
static unsigned long frames;

static void demand(bool holds, const char *rule)
{
	if (holds)
		return;
	fprintf(stderr, "BROKEN RULE: %s\nCPU %u, jiffies %llu, a frame of %zu octets:", rule, host_cpu,
		(unsigned long long)host_jiffies, now_under_test.size);
	for (size_t i = 0; i < now_under_test.size; i++)
		fprintf(stderr, "%s%02x", i % 32 ? " " : "\n  ", now_under_test.octets[i]);
	fprintf(stderr, "\n");
	abort();
}

/* ---- the two parsers ---- */

static void check_parsers(struct frame frame)
{
	void *start = place_at_end(arena, frame.octets, frame.size), *end = start + frame.size;
	struct xdp_md ctx = {.data = (uintptr_t)start, .data_end = (uintptr_t)end};
	struct packet packet = {.frame_bytes = frame.size};
	__u64 key;

	if (!parse_plain(start, end, &key))
		return;
	demand(parse_any(&ctx, &packet) && !packet.is_ipv6, "what is plain has an IPv4 header");
	demand(packet.fault == FAULT_NONE, "what is plain has no fault");
	demand(packet.part == PART_ALL, "what is plain is neither a fragment nor an error");
	demand(service_key(&packet) == key, "both parsers say the same VIP, port and protocol");
	demand(packet_source(&packet) == plain_source(start), "both parsers say the same source");
	demand(packet.tcp_flags == (packet.protocol == IPPROTO_TCP ? ((struct plain_frame *)start)->tcp_flags : 0),
	       "both parsers say the same TCP flags");
}

/* ---- what a verdict has to bring about ---- */

static void add_moved(int *moved, int which, __u64 before, __u64 after, const char *rule)
{
	if (before == after)
		return;
	demand(after == before + 1 && *moved == NOTHING, rule);
	*moved = which;
}

static int find_backend(const struct state *before, const struct state *after, size_t bytes, __u64 *flows)
{
	int found = NOTHING;

	for (int i = 0; i <= HOST_MASK_counters; i++) {
		const struct backend_counters *old = &before->counters[i], *new = &after->counters[i];

		if (same_words(old, new, sizeof(*old)))
			continue;
		add_moved(&found, i, old->packets, new->packets, "one backend counts the packet, once");
		demand(found == i && new->bytes == old->bytes + bytes, "it counts the frame's octets");
		*flows = new->flows - old->flows;
		demand(*flows <= 1, "a packet is one new flow at most");
	}
	demand(found == NOTHING || found / HOST_COUNTERS_PER_CPU == (int)host_cpu, "a CPU writes its own counters");
	return found == NOTHING ? NOTHING : found % HOST_COUNTERS_PER_CPU;
}

static int *reason_group(struct moved *moved, int reason)
{
	return reason < FLOW_INSERTED              ? &moved->reason
	       : reason < CLIENT_NOTED             ? &moved->flow_reason
	       : reason < DESTINATION_REFUSED_FULL ? &moved->client_reason
						   : &moved->destination_reason;
}

static struct moved compare_counters(const struct state *before, const struct state *after, size_t bytes)
{
	struct moved moved = {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, 0};

	for (int i = 0; i < REASONS; i++)
		add_moved(reason_group(&moved, i), i, before->cpus[host_cpu].reasons[i],
			  after->cpus[host_cpu].reasons[i], "one reason counts the packet, once");
	for (__u32 i = 0; i < CPUS; i++)
		demand(i == host_cpu || same_words(&before->cpus[i], &after->cpus[i], sizeof(before->cpus[i])),
		       "a CPU writes its own record");
	moved.backend = find_backend(before, after, bytes, &moved.flows);
	return moved;
}

static bool has_macs(const __u8 *frame, const __u8 *destination, const __u8 *source)
{
	return !memcmp(frame, destination, ETH_ALEN) && !memcmp(frame + ETH_ALEN, source, ETH_ALEN);
}

static bool is_tag(const __u8 *type)
{
	return (type[0] == 0x81 && type[1] == 0x00) || (type[0] == 0x88 && type[1] == 0xa8);
}

/*
 * What stands behind a frame's MACs once it is in a segment (0: the untagged one): of at most two tags the inner one
 * has its id, is gone, or has come. Answers how much that is.
 */
static size_t in_segment(struct frame frame, __u16 vlan, __u8 *rest)
{
	const __u8 *type = frame.octets + MACS_BYTES;
	size_t size = frame.size - MACS_BYTES, inner = is_tag(type) && is_tag(type + 4) ? 4 : 0;

	memcpy(rest, type, size);
	if (is_tag(type) && vlan) {
		rest[inner + 2] = (rest[inner + 2] & 0xf0) | vlan >> 8;
		rest[inner + 3] = vlan;
	} else if (is_tag(type)) {
		memcpy(rest + inner, type + inner + 4, size - inner - 4);
		size -= 4;
	} else if (vlan) {
		const __u8 tag[] = {0x81, 0x00, vlan >> 8, vlan};

		memcpy(rest, tag, sizeof(tag));
		memcpy(rest + sizeof(tag), type, size);
		size += 4;
	}
	return size;
}

/* Out by an interface: to the backend that was counted, and from this director. */
static void check_sent(struct frame frame, const struct outcome *outcome, int backend)
{
	bool redirected = outcome->verdict == XDP_REDIRECT;
	enum reach reach = reach_of(backend / BACKENDS_PER_SERVICE, backend % BACKENDS_PER_SERVICE);
	__u8 mac[ETH_ALEN], rest[FRAME_BYTES_MAX + HEADROOM_BYTES];
	size_t size;

	backend_mac(backend, mac);
	demand(redirected ? reach == REACH_OTHER : reach == REACH_OWN || reach == REACH_TAGGED,
	       "a frame leaves where its backend is reached");
	demand(outcome->egress == (redirected ? OTHER_IFINDEX : 0), "a redirect leads to the backend's interface");
	demand(memcmp(frame.octets + ETH_ALEN, mac, ETH_ALEN), "no frame goes back to its sender");
	demand(has_macs(outcome->frame, mac, redirected ? other_mac : own_mac), "a frame leaves with its two MACs");
	size = in_segment(frame, reach == REACH_TAGGED ? VLAN_OF_TAGGED : 0, rest);
	demand(outcome->size == MACS_BYTES + size && !memcmp(outcome->frame + MACS_BYTES, rest, size),
	       "no octet but the MACs and the segment's tag changes");
}

static void run(int (*program)(struct xdp_md *), __u8 *start, size_t size, struct outcome *outcome)
{
	struct xdp_md ctx = {.data = (uintptr_t)start, .data_end = (uintptr_t)start + size};

	memset(&host_redirected, 0, sizeof(host_redirected));
	outcome->verdict = program(&ctx);
	outcome->egress = host_redirected.ifindex;
	demand(!host_redirected.ifindex || host_redirected.flags == XDP_DROP,
	       "where a redirect leads nowhere, the frame is dropped");
	outcome->size = (uintptr_t)start + size - ctx.data;
	memcpy(outcome->frame, (void *)(uintptr_t)ctx.data, outcome->size);
	take_state(&outcome->state);
}

/* An ICMP error about a TCP flow goes where that flow's next segment would go. */
static void check_error(struct frame frame, const struct state *before, const struct outcome *outcome,
			const __u8 *quoted)
{
	static struct outcome next;
	const size_t ports = (quoted[0] & 0xf) * 4;
	__u8 segment[sizeof(struct plain_frame)] = {[12] = 0x08, 0x00, 0x45, [17] = 40, [23] = 6, [46] = 0x50, 0x10};

	memcpy(segment, frame.octets, MACS_BYTES);
	memcpy(segment + 26, quoted + 16, 4);
	memcpy(segment + 30, quoted + 12, 4);
	memcpy(segment + 34, quoted + ports + 2, 2);
	memcpy(segment + 36, quoted + ports, 2);
	put_state(before);
	run(xlb, place_at_end(arena, segment, sizeof(segment)), sizeof(segment), &next);
	put_state(&outcome->state);
	demand(next.verdict == outcome->verdict && next.egress == outcome->egress &&
		   !memcmp(next.frame, outcome->frame, MACS_BYTES),
	       "an error goes where its flow's next segment goes");
}

static int verdict_of(int reason)
{
	if (reason == NOTHING)
		return XDP_TX;
	return reason == TX_REDIRECTED ? XDP_REDIRECT : reason <= PASS_FROM_PEER ? XDP_PASS : XDP_DROP;
}

/* What a later fragment, an ICMP error, or what is not balanced leaves as it was. */
static void check_nothing_is_noted(const struct state *before, const struct outcome *outcome, const struct moved *moved)
{
	const struct state *after = &outcome->state;

	demand(moved->flow_reason == NOTHING && !moved->flows &&
		   same_words(before->flows, after->flows, sizeof(after->flows)),
	       "only a flow's own packets change its entry");
	demand(moved->client_reason == NOTHING && same_words(before->clients, after->clients, sizeof(after->clients)),
	       "only a client's own packets change its note");
	demand(moved->destination_reason == NOTHING &&
		   same_words(before->destinations, after->destinations, sizeof(after->destinations)),
	       "only a destination's new flows change its note");
	demand(same_words(before->cursors, after->cursors, sizeof(after->cursors)), "only new flows have a turn");
}

static void check_wanted(struct frame frame, const struct wanted *wanted, const struct moved *moved, bool balanced)
{
	const int *noted = wanted->note ? &wanted->note->backend : NULL;

	if (wanted->reason != REASONS) {
		demand(moved->reason == (int)wanted->reason, "what is not balanced ends by its name");
	} else if (balanced) {
		demand(moved->backend / BACKENDS_PER_SERVICE == (int)wanted->service,
		       "a frame gets its service's backend");
		demand(!noted || *noted == moved->backend || *noted == ANY_BACKEND,
		       "a later fragment follows the first");
	} else if (moved->reason == DROP_RATE_LIMITED) {
		demand(lists[own_list(&fixtures[wanted->service])].has_rate && wanted->kind != KIND_LATER &&
			   wanted->kind != KIND_ERROR,
		       "only what may open a flow has a rate");
	} else if (moved->reason == DROP_TO_SENDER) {
		demand(is_from_backend(frame.octets, wanted->service), "only a backend is a frame's sender");
	} else {
		demand(moved->reason == DROP_NO_BACKEND || moved->reason == DROP_BACKEND_DOWN,
		       "what is for a service is balanced, or has no backend");
		demand(!noted || (*noted == NOTHING && moved->reason == DROP_BACKEND_DOWN),
		       "a later fragment ends as the first");
	}
}

/* One note was written: the client's, of the server that got the packet. */
static void check_note(const struct state *before, const struct outcome *outcome, int backend)
{
	const struct client *written = NULL;

	for (int i = 0; i < (HOST_MASK_clients + 1) * CLIENTS_PER_BUCKET; i++) {
		const struct client *old = &before->clients[i / CLIENTS_PER_BUCKET].client[i % CLIENTS_PER_BUCKET];
		const struct client *new =
		    &outcome->state.clients[i / CLIENTS_PER_BUCKET].client[i % CLIENTS_PER_BUCKET];

		if (same_words(old, new, sizeof(*old)))
			continue;
		demand(!written, "a packet writes one note");
		written = new;
	}
	/* The same again: it was written over one that had just ended, and lasts as long as that. */
	if (!written)
		return;
	demand(written->name.owner == (7 | PERSIST_PREFIX << CLIENT_PREFIX_SHIFT) &&
		   !(bpf_ntohl(written->name.source.low) << PERSIST_PREFIX),
	       "a note names its group's client");
	if (backend != NOTHING)
		demand(client_server(written->value) == server_of(backend % BACKENDS_PER_SERVICE),
		       "a note names the server that gets the packet");
}

/* Notes of destinations: at most one was written, of a service that has them; it names whom the packet went to first.
 */
static void check_destination(const struct state *before, const struct outcome *outcome, __u32 service,
			      const struct moved *moved)
{
	int written = NOTHING;

	for (int i = 0; i < (HOST_MASK_destinations + 1) * DESTINATIONS_PER_BUCKET; i++) {
		const struct destination *old =
		    &before->destinations[i / DESTINATIONS_PER_BUCKET].destination[i % DESTINATIONS_PER_BUCKET];
		const struct destination *new =
		    &outcome->state.destinations[i / DESTINATIONS_PER_BUCKET].destination[i % DESTINATIONS_PER_BUCKET];
		__u32 count = destination_count(new->value);

		if (same_words(old, new, sizeof(*old)))
			continue;
		add_moved(&written, i, 0, 1, "a packet writes one note of a destination");
		demand(choice_of(service) >= CHOICE_LBLC, "destinations are noted where the scheduler asks for them");
		demand(new->name >> DESTINATION_SERVICE_SHIFT == service_id(service), "a note is of one service");
		demand(destination_state(new->value) > DESTINATION_CLAIMED && count >= 1 &&
			   count <= (choice_of(service) == CHOICE_LBLC ? 1 : DESTINATION_BACKENDS),
		       "a note has one backend, or a set");
		if (new->backend[0] != old->backend[0] && count > destination_count(old->value) &&
		    moved->flow_reason == FLOW_INSERTED && moved->backend != NOTHING)
			demand((__u16) new->backend[0] == moved->backend % BACKENDS_PER_SERVICE,
			       "who is added to a note gets the packet");
	}
}

static void check_outcome(struct frame frame, const struct state *before, const struct outcome *outcome)
{
	struct moved moved = compare_counters(before, &outcome->state, frame.size);
	bool balanced = moved.reason == NOTHING || moved.reason == TX_REDIRECTED || moved.reason == PASS_LOCAL;
	struct wanted wanted;
	bool for_service;

	if (frame.size < ETH_HLEN) {
		demand(outcome->verdict == XDP_PASS && same_words(before, &outcome->state, sizeof(*before)),
		       "what is no Ethernet frame goes to the stack");
		return;
	}
	demand(outcome->verdict == verdict_of(moved.reason), "the reason is that of the verdict");
	demand(balanced == (moved.backend != NOTHING), "a backend counts what it gets, and nothing else");
	if (outcome->verdict == XDP_TX || outcome->verdict == XDP_REDIRECT)
		check_sent(frame, outcome, moved.backend);
	else
		demand(outcome->size == frame.size && !memcmp(outcome->frame, frame.octets, frame.size),
		       "what is passed or dropped is not touched");

	wanted = want(frame.octets, frame.size);
	if (wanted.may_be_lost && moved.reason == DROP_FRAGMENT)
		wanted = want_by_source(wanted);
	check_wanted(frame, &wanted, &moved, balanced);
	for_service = wanted.reason == REASONS && moved.reason != DROP_RATE_LIMITED;
	if (!for_service || !(fixtures[wanted.service].flags & SERVICE_PERSISTENT))
		demand(moved.client_reason == NOTHING &&
			   same_words(before->clients, outcome->state.clients, sizeof(before->clients)),
		       "clients are noted where there is persistence");
	if (for_service)
		check_destination(before, outcome, wanted.service, &moved);
	if (moved.client_reason == CLIENT_NOTED)
		check_note(before, outcome, moved.backend);
	if (!for_service || wanted.kind == KIND_LATER || wanted.kind == KIND_ERROR)
		check_nothing_is_noted(before, outcome, &moved);
	if (!for_service || wanted.kind != KIND_FIRST)
		demand(same_words(before->fragments, outcome->state.fragments, sizeof(before->fragments)),
		       "only first fragments leave notes");
	else if (moved.reason != DROP_NO_BACKEND)
		keep_note(wanted.name, wanted.service, moved.reason == DROP_TO_SENDER ? ANY_BACKEND : moved.backend);
	if (for_service && wanted.kind == KIND_ERROR && fixtures[wanted.service].protocol == IPPROTO_TCP)
		check_error(frame, before, outcome, wanted.quoted);
}

/* ---- a row of frames ---- */

static void check_frame(struct frame frame)
{
	static struct outcome all, long_way;
	static struct state before;

	now_under_test = frame;
	frames++;
	check_parsers(frame);
	take_state(&before);
	run(xlb, place_at_start(arena, frame.octets, frame.size), frame.size, &all);
	put_state(&before);
	run(balance, place_at_end(arena, frame.octets, frame.size), frame.size, &long_way);
	demand(all.verdict == long_way.verdict && all.egress == long_way.egress, "both ways have one verdict");
	demand(all.size == long_way.size && !memcmp(all.frame, long_way.frame, all.size),
	       "both ways make the same of the frame");
	demand(same_words(&all.state, &long_way.state, sizeof(all.state)), "both ways make the same of the tables");
	check_outcome(frame, &before, &all);
}

static void say_frames(void)
{
	fprintf(stderr, "frames: %lu\n", frames);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	arena = make_arena();
	fill_tables();
	keep_read_tables();
	atexit(say_frames);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t left)
{
	clear_state();
	notes_count = 0;
	host_jiffies = JIFFIES_AT_START;
	while (left >= PREFIX_BYTES && notes_count < NOTES_MAX) {
		__u8 step = input[0];
		size_t size = input[1];

		input += PREFIX_BYTES;
		left -= PREFIX_BYTES;
		if (size == LENGTH_REST || size > left)
			size = left < FRAME_BYTES_MAX ? left : FRAME_BYTES_MAX;
		host_jiffies += (__u64)(step & 0x1f) << (step >> 5 & 3) * 4;
		host_cpu = step >> 7;
		check_frame((struct frame){input, size});
		input += size;
		left -= size;
	}
	demand(read_tables_are_untouched(), "packets only read the tables that are the controller's");
	return 0;
}

#pragma clang attribute pop
