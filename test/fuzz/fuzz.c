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
#include "demand.h"
#include "moved.h"
#include "notes.h"
#include "oracle6.h"
#include "outcome.h"
#include "sent.h"
#include "state.h"

enum { PREFIX_BYTES = 2, LENGTH_REST = 255 };

static __u8 *arena;
static unsigned long frames;

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

/* The addresses of what is quoted, of `bytes` each, and its ports, turned round. */
static void turn_round(__u8 *addresses, const __u8 *quoted, const __u8 *quoted_ports, size_t bytes)
{
	__u8 *ports = addresses + 2 * bytes;

	memcpy(addresses, quoted + bytes, bytes);
	memcpy(addresses + bytes, quoted, bytes);
	memcpy(ports, quoted_ports + 2, 2);
	memcpy(ports + 2, quoted_ports, 2);
}

/* An ICMP error about a TCP flow goes where that flow's next segment would go. */
static void check_error(struct frame frame, const struct state *before, const struct outcome *outcome,
			const struct wanted *wanted)
{
	static struct outcome next;
	__u8 segment4[sizeof(struct plain_frame)] = {[12] = 0x08, 0x00, 0x45, [17] = 40, [23] = 6, [46] = 0x50, 0x10};
	__u8 segment6[sizeof(struct plain_frame6)] = {[12] = 0x86, 0xdd, 0x60, [19] = 20, 6, [66] = 0x50, 0x10};
	bool is_ipv6 = wanted->quoted[0] >> 4 == 6;
	__u8 *segment = is_ipv6 ? segment6 : segment4;
	size_t size = is_ipv6 ? sizeof(segment6) : sizeof(segment4);

	memcpy(segment, frame.octets, MACS_BYTES);
	if (is_ipv6)
		turn_round(segment + 22, wanted->quoted + 8, wanted->quoted_ports, 16);
	else
		turn_round(segment + 26, wanted->quoted + 12, wanted->quoted_ports, 4);
	put_state(before);
	run(xlb, place_at_end(arena, segment, size), size, &next);
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
	if (wanted.may_be_lost && (moved.reason == DROP_FRAGMENT || moved.reason == PASS_NOT_BALANCED))
		wanted = want_without_note(wanted);
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
		check_error(frame, before, outcome, &wanted);
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
