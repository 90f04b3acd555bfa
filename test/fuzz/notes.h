/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a frame may leave behind: entries, notes of clients and of destinations. */
#ifndef XLB_FUZZ_NOTES_H
#define XLB_FUZZ_NOTES_H

#include "moved.h"
#include "oracle6.h"
#include "outcome.h"

/* What a later fragment, an ICMP error, or what is not balanced leaves as it was. */
static void check_nothing_is_noted(const struct state *before, const struct outcome *outcome, const struct moved *moved)
{
	const struct state *after = &outcome->state;

	demand(moved->flow_reason == NOTHING && !moved->flows &&
		   same_words(before->flows, after->flows, sizeof(after->flows)) &&
		   same_words(before->flows6, after->flows6, sizeof(after->flows6)) &&
		   same_words(before->prefix_flows6, after->prefix_flows6, sizeof(after->prefix_flows6)),
	       "only a flow's own packets change its entry");
	demand(moved->client_reason == NOTHING && same_words(before->clients, after->clients, sizeof(after->clients)),
	       "only a client's own packets change its note");
	demand(moved->destination_reason == NOTHING &&
		   same_words(before->destinations, after->destinations, sizeof(after->destinations)),
	       "only a destination's new flows change its note");
	demand(same_words(before->cursors, after->cursors, sizeof(after->cursors)), "only new flows have a turn");
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
		demand((__u16)(new->name >> DESTINATION_SERVICE_SHIFT) == service_id(service),
		       "a note is of one service");
		demand(destination_state(new->value) > DESTINATION_CLAIMED && count >= 1 &&
			   count <= (choice_of(service) == CHOICE_LBLC ? 1 : DESTINATION_BACKENDS),
		       "a note has one backend, or a set");
		if (new->backend[0] != old->backend[0] && count > destination_count(old->value) &&
		    moved->flow_reason == FLOW_INSERTED && moved->backend != NOTHING)
			demand((__u16) new->backend[0] == moved->backend % BACKENDS_PER_SERVICE,
			       "who is added to a note gets the packet");
	}
}

#endif
