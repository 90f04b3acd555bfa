/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork(2) and a punctual kill for crash.ts: a Node process takes 100 ms to start and 2 to fork, and a test of a thousand kills
 * needs a thousand processes. The child has the calling thread alone, so the process must run with --single-threaded, and
 * the child must never return to the event loop.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A child tells how far it has come by writing a letter for each step. */
enum { MARKS_MAX = 64 };

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static napi_value fail(napi_env env)
{
	napi_throw_error(env, NULL, strerror(errno));
	return NULL;
}

static void set_number(napi_env env, napi_value object, const char *name, double value)
{
	napi_value number;

	napi_create_double(env, value, &number);
	napi_set_named_property(env, object, name, number);
}

/* V8 keeps its heap out of children (MADV_DONTFORK, which makes Node's own spawn faster): here the child needs it. */
static void let_children_have_all(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	char line[512];

	if (!maps)
		return;
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2)
			madvise((void *)start, end - start, MADV_DOFORK); /* refused for the kernel's own: no matter */
	fclose(maps);
}

/* fork(): { pid, marks }. In the child pid is 0 and marks the descriptor to write marks to. */
static napi_value do_fork(napi_env env, napi_callback_info info)
{
	napi_value result;
	int ends[2];
	pid_t pid;

	(void)info;
	let_children_have_all();
	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail(env);
	pid = fork();
	if (pid < 0)
		return fail(env);
	close(ends[pid == 0 ? 0 : 1]);
	napi_create_object(env, &result);
	set_number(env, result, "pid", pid);
	set_number(env, result, "marks", ends[pid == 0 ? 1 : 0]);
	return result;
}

static void wait_until(int64_t end)
{
	while (now_ns() < end) {
		const struct timespec nap = {.tv_nsec = 200000};

		if (end - now_ns() > 500000)
			nanosleep(&nap, NULL);
	}
}

/*
 * killAfter(pid, marks, mark, microseconds): waits until the child has written `mark` (0: for nothing), then for so many
 * microseconds, and kills it; a negative time lets it end by itself. Returns { status, marks, ns }: the wait status, all
 * that the child has written, and the time from the mark to its end.
 */
static napi_value kill_after(napi_env env, napi_callback_info info)
{
	double argument[4] = {0};
	napi_value arguments[4], result, text;
	char marks[MARKS_MAX + 1];
	size_t count = 4, length = 0;
	int64_t start;
	int status = 0;
	ssize_t got;

	napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
	for (size_t i = 0; i < count; i++)
		napi_get_value_double(env, arguments[i], &argument[i]);
	const pid_t pid = argument[0];
	const int descriptor = argument[1];
	const char wanted = argument[2];

	if (pid <= 1) {
		napi_throw_error(env, NULL, "killAfter: no child");
		return NULL;
	}
	while (wanted && !memchr(marks, wanted, length) && length < MARKS_MAX) {
		got = read(descriptor, marks + length, MARKS_MAX - length);
		if (got <= 0)
			break;
		length += got;
	}
	start = now_ns();
	if (argument[3] >= 0) {
		wait_until(start + (int64_t)(argument[3] * 1000));
		kill(pid, SIGKILL);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return fail(env);
	napi_create_object(env, &result);
	set_number(env, result, "ns", now_ns() - start);
	while (length < MARKS_MAX && (got = read(descriptor, marks + length, MARKS_MAX - length)) > 0)
		length += got;
	close(descriptor);
	set_number(env, result, "status", status);
	napi_create_string_utf8(env, marks, length, &text);
	napi_set_named_property(env, result, "marks", text);
	return result;
}

/* exitNow(code): _exit(2), past everything that Node would do. */
static napi_value exit_now(napi_env env, napi_callback_info info)
{
	napi_value argument;
	size_t count = 1;
	double code = 0;

	napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
	napi_get_value_double(env, argument, &code);
	_exit((int)code);
}

NAPI_MODULE_INIT()
{
	static const struct {
		const char *name;
		napi_callback call;
	} functions[] = {{"fork", do_fork}, {"killAfter", kill_after}, {"exitNow", exit_now}};

	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		napi_value function;

		napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].call, NULL, &function);
		napi_set_named_property(env, exports, functions[i].name, function);
	}
	return exports;
}
