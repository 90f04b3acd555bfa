/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Persistence: a client's new flows go to the server of its first one, for as long as its note lasts. The note is
 * written with the flow that is scheduled, lasts from each new flow anew, and is refreshed by the packets of flows to
 * the same server, once in a unit of age for each: whoever has a connection that is used does not lose its server.
 *
 * Packets of a persistent service without an entry in the flow table follow the note too, before the ring: so a flow
 * that could not be recorded, or whose entry gave way, stays where its client's flows go.
 *
 * A note is claimed, written and read as an entry of the flow table is (flow.h), and a reader that races a writer finds
 * none. Two CPUs may see a client's first two packets at the same moment and then both note it: the one that is first
 * in its buckets is the one that counts from then on, and the other ends by itself.
 */
#ifndef XLB_PERSIST_H
#define XLB_PERSIST_H

#include "slots.h"

/* As READ_WORD and WRITE_WORD of flow.h: a test slows down either pair by itself. */
#define READ_NOTE(word)         (*(volatile __u64 *)&(word))
#define WRITE_NOTE(word, value) (*(volatile __u64 *)&(word) = (value))

#define CLIENT_CHECK_BITS 0xffffffULL

static __always_inline __u32 client_state(__u64 value)
{
	return value >> CLIENT_STATE_SHIFT & CLIENT_STATE_MASK;
}

static __always_inline __u32 client_server(__u64 value)
{
	return value & CLIENT_SERVER_MASK;
}

/* Units of age until a note ends; more than PERSIST_AGES_MAX: it has ended. */
static __always_inline __u32 client_ages_left(__u64 value, __u64 now)
{
	return ((value >> CLIENT_AGE_SHIFT) - now) & CLIENT_AGE_MASK;
}

static __always_inline bool client_ended(__u64 value, __u64 now)
{
	return client_ages_left(value, now) > PERSIST_AGES_MAX;
}

/* Check bits, as they stand in a value. */
static __always_inline __u64 client_check(const struct client_search *search)
{
	return search->hash << CLIENT_CHECK_SHIFT;
}

/* The two buckets that a note may stand in. */
static __always_inline __u32 first_bucket(const struct client_search *search)
{
	return search->hash >> 32;
}

static __always_inline __u32 second_bucket(const struct client_search *search)
{
	return first_bucket(search) ^ ((__u32)search->hash * 0x9e3779b1U >> 7);
}

static __always_inline __u64 client_value(__u64 check, __u32 server, __u32 state, __u64 until)
{
	return check | (server & CLIENT_SERVER_MASK) | (__u64)state << CLIENT_STATE_SHIFT |
	       (until & CLIENT_AGE_MASK) << CLIENT_AGE_SHIFT;
}

/* The policy beside a service's record. */
static __always_inline const struct service_policy *policy_of(const struct service *service)
{
	__u64 offset = (const void *)service - (const void *)&services[0];

	return AT(service_policies, offset / sizeof(*service));
}

/* By what a service tells its clients from each other: the leading bits of their addresses. */
static __always_inline void name_client(struct client_search *search, const struct service_policy *policy,
					const struct packet *packet)
{
	__u32 bits = policy->persist_prefix, high_bits = bits < 64 ? bits : 64;

	search->name.owner = policy->persist_id | (__u64)bits << CLIENT_PREFIX_SHIFT;
	if (packet->is_ipv6) {
		search->name.owner |= 1ULL << CLIENT_IPV6_SHIFT;
		search->name.source.high = leading_bits(packet->source6.high, high_bits);
		search->name.source.low = leading_bits(packet->source6.low, bits - high_bits);
	} else {
		search->name.source.high = 0;
		search->name.source.low = leading_bits(packet->source_be, bits);
	}
}

static __always_inline struct client *client_at(__u64 place)
{
	struct client_bucket *bucket = AT(clients, place / CLIENTS_PER_BUCKET);

	return &bucket->client[place % CLIENTS_PER_BUCKET];
}

static __always_inline bool has_name(const struct client *client, const struct client_name *name)
{
	return !((READ_NOTE(client->name.source.high) ^ name->source.high) |
		 (READ_NOTE(client->name.source.low) ^ name->source.low) |
		 (READ_NOTE(client->name.owner) ^ name->owner));
}

/* Finds a client's note, ended or not. Not inlined: the verifier proves it once. */
__noinline int find_client(struct client_search *search)
{
	__u64 seed = CONSTANT64(FLOW_SEED), hash;

	if (!search)
		return 0;
	hash = hash_mix(search->name.source.high, seed + (search->name.owner << 1));
	hash = hash_mix(hash + search->name.source.low, seed);
	search->hash = hash;
	search->value = 0;
	search->found = 0;
	/* As a loop it would end by falling into its beginning, which Linux 6.1's verifier forbids. */
#pragma unroll
	for (int i = 0; i < 2 * CLIENTS_PER_BUCKET; i++) {
		__u32 bucket = i < CLIENTS_PER_BUCKET ? first_bucket(search) : second_bucket(search);
		__u32 place = bucket * CLIENTS_PER_BUCKET + i % CLIENTS_PER_BUCKET;
		struct client *client = client_at(place);
		__u64 value;

		if (!has_name(client, &search->name))
			continue;
		value = READ_NOTE(client->value);
		if (client_state(value) <= CLIENT_CLAIMED ||
		    (value ^ client_check(search)) >> CLIENT_CHECK_SHIFT & CLIENT_CHECK_BITS ||
		    !has_name(client, &search->name))
			continue;
		search->value = value;
		search->found = place;
		break;
	}
	return 0;
}

/* ---- reading: whom a note names ---- */

/* The service's own backend of a server, SLOT_NONE: it has none, or one that takes no clients. */
static __always_inline __u32 backend_of_server(const struct service_policy *policy, __u32 server)
{
	return server < policy->persist_servers ? line_slot(policy->persist_line, server) : SLOT_NONE;
}

static __always_inline __u32 server_of_backend(const struct service_policy *policy, __u32 backend)
{
	return line_slot(policy->persist_line, policy->persist_servers + backend);
}

/* The backend that a note leads to, SLOT_NONE: there is no note, it has ended, or its server takes no client here. */
static __always_inline __u32 backend_of_note(const struct service *service, const struct service_policy *policy,
					     __u64 value, __u64 now)
{
	__u32 backend;

	if (!value || client_ended(value, now))
		return SLOT_NONE;
	backend = backend_of_server(policy, client_server(value));
	return backend_flags(service, backend) & BACKEND_ALIVE ? backend : SLOT_NONE;
}

/* A note that holds may last from now on. Written only when that changes it; a lost race is another packet's refresh.
 */
static __always_inline void prolong_note(const struct client_search *search, const struct service_policy *policy,
					 __u32 state, __u64 now)
{
	__u64 value =
	    client_value(client_check(search), client_server(search->value), state, now + policy->persist_ages);

	if (value != search->value)
		__sync_val_compare_and_swap(&client_at(search->found)->value, search->value, value);
}

/*
 * The backend that the note of a packet's client names, SLOT_NONE: there is no note, it has ended, or its server does
 * not take the client at this service. Prolongs the note, but for an ICMP error: that is no packet of the client's.
 */
__noinline __u32 follow_note(const struct service *service, const struct packet *packet)
{
	const struct service_policy *policy;
	struct client_search *search;
	__u64 now = clock_age();
	__u32 backend, state;

	if (!service || !packet)
		return SLOT_NONE;
	policy = policy_of(service);
	search = &own_cpu(packet->cpu_number)->search;
	name_client(search, policy, packet);
	find_client(search);
	backend = backend_of_note(service, policy, search->value, now);
	if (backend == SLOT_NONE || packet->part == PART_ERROR)
		return backend;
	/* UDP opens nothing that could be seen to be established: a client that comes again is one. */
	state = client_state(search->value);
	if (service->flags & SERVICE_UDP && client_ages_left(search->value, now) != policy->persist_ages)
		state = CLIENT_ASSURED;
	prolong_note(search, policy, state, now);
	return backend;
}

/*
 * A packet of a flow to `backend` was seen: if that is where the client's note leads, it lasts from now on, also where
 * it had ended meanwhile and nobody took its place. With an established flow the client is assured.
 */
__noinline int touch_note(const struct service *service, const struct packet *packet, __u32 backend, __u32 flow_state)
{
	const struct service_policy *policy;
	struct client_search *search;
	bool established = flow_state == FLOW_ESTABLISHED || flow_state == FLOW_UDP;

	if (!service || !packet)
		return 0;
	policy = policy_of(service);
	search = &own_cpu(packet->cpu_number)->search;
	name_client(search, policy, packet);
	find_client(search);
	if (search->value && client_server(search->value) == server_of_backend(policy, backend))
		prolong_note(search, policy, established ? CLIENT_ASSURED : client_state(search->value), clock_age());
	return 0;
}

/* ---- writing ---- */

enum client_readiness { CLIENT_GIVES_WAY = 1 << 24, CLIENT_GIVES_WAY_NOW = 2 << 24 };

/* How readily a place gives way: a free or ended one, else the new client that was noted first. 0: never. */
static __always_inline __u32 client_readiness(__u64 value, __u64 now)
{
	__u32 state = client_state(value);

	if (state == CLIENT_FREE || (state != CLIENT_CLAIMED && client_ended(value, now)))
		return CLIENT_GIVES_WAY_NOW;
	return state == CLIENT_NEW ? CLIENT_GIVES_WAY + PERSIST_AGES_MAX - client_ages_left(value, now) : 0;
}

/* client_victim's word. */
enum client_victim { VICTIM_FREE_SHIFT = 34, VICTIM_READINESS_SHIFT = 38 };

/*
 * The place of a bucket that gives way most readily, in one word, of which a greater one is the better place: how
 * readily (0: none gives way), how many places of the bucket are free, which place it is, counted over all buckets. In
 * one word, for the sake of the stack.
 */
__noinline __u64 client_victim(__u32 index, __u64 now)
{
	struct client_bucket *bucket = AT(clients, index);
	__u64 best = 0, free = 0;

	for (__u64 i = 0; i < CLIENTS_PER_BUCKET; i++) {
		__u64 readiness = client_readiness(READ_NOTE(bucket->client[i].value), now);

		free += readiness == CLIENT_GIVES_WAY_NOW;
		if (readiness > best >> VICTIM_READINESS_SHIFT)
			best = readiness << VICTIM_READINESS_SHIFT | ((__u64)index * CLIENTS_PER_BUCKET + i);
	}
	return best | free << VICTIM_FREE_SHIFT;
}

/* Writes a client's first note. Answers what it counts as. */
static __always_inline enum reason insert_note(const struct client_search *search, __u64 note, __u64 now)
{
	const __u64 claimed = (__u64)CLIENT_CLAIMED << CLIENT_STATE_SHIFT;
	__u64 first = client_victim(first_bucket(search), now);
	__u64 second = client_victim(second_bucket(search), now);
	__u64 victim = first >> VICTIM_FREE_SHIFT >= second >> VICTIM_FREE_SHIFT ? first : second, value;
	struct client *client = client_at(victim);

	if (!(victim >> VICTIM_READINESS_SHIFT))
		return CLIENT_REFUSED_FULL;
	value = READ_NOTE(client->value);
	/* Still to be had? */
	if (!client_readiness(value, now) || __sync_val_compare_and_swap(&client->value, value, claimed) != value)
		return CLIENT_REFUSED_RACE;
	WRITE_NOTE(client->name.source.high, search->name.source.high);
	WRITE_NOTE(client->name.source.low, search->name.source.low);
	WRITE_NOTE(client->name.owner, search->name.owner);
	/* A cmpxchg, not a store: it orders the name before the value on every machine. */
	__sync_val_compare_and_swap(&client->value, claimed, note);
	return CLIENT_NOTED;
}

/* Gives a client's note another server, in place. */
static __always_inline enum reason rewrite_note(const struct client_search *search, __u64 value)
{
	__u64 *word = &client_at(search->found)->value;

	return __sync_val_compare_and_swap(word, search->value, value) == search->value ? CLIENT_NOTED
											: CLIENT_REFUSED_RACE;
}

/*
 * Notes the backend that a new flow was scheduled to, for a client that has no note which holds. Answers where the flow
 * goes: there, or where another CPU has noted the client meanwhile; SLOT_NONE: it is just doing so.
 */
__noinline __u32 note_client(const struct service *service, const struct packet *packet, __u32 backend)
{
	const struct service_policy *policy;
	struct client_search *search;
	__u64 now = clock_age(), note;
	enum reason noted;
	__u32 other;

	if (!service || !packet)
		return SLOT_NONE;
	policy = policy_of(service);
	search = &own_cpu(packet->cpu_number)->search;
	name_client(search, policy, packet);
	find_client(search);
	other = backend_of_note(service, policy, search->value, now);
	if (other != SLOT_NONE)
		return other;
	note = client_value(client_check(search), server_of_backend(policy, backend), CLIENT_NEW,
			    now + policy->persist_ages);
	noted = search->value ? rewrite_note(search, note) : insert_note(search, note, now);
	count(own_cpu(packet->cpu_number), noted);
	return noted == CLIENT_REFUSED_RACE ? SLOT_NONE : backend;
}

/* Where a new flow goes that was scheduled to `backend`, now that its client has a note. */
static __always_inline __u32 noted_backend(const struct service *service, const struct packet *packet, __u32 backend)
{
	__u32 noted = note_client(service, packet, backend);

	if (noted == SLOT_NONE)
		noted = follow_note(service, packet);
	return noted == SLOT_NONE ? backend : noted;
}

#endif
