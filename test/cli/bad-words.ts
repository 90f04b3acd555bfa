// SPDX-License-Identifier: Apache-2.0
// Wrong words on the command line, given to an instance that is attached to eth0 and has WEB with the backend 10.89.0.21.
import type { Wrong } from './wrong.ts'

export const WEB = 'tcp://10.89.0.100:80'
const RS1 = '10.89.0.21'

const badService = (text: string, ...says: (string | RegExp)[]): Wrong => ({
  what: `service '${text}'`,
  argv: ['service', 'add', text],
  code: 2,
  says: [`service '${text}'`, ...says],
})

const badBackend = (text: string, ...says: (string | RegExp)[]): Wrong => ({
  what: `backend '${text}'`,
  argv: ['backend', 'set', WEB, text],
  code: 2,
  says: [`backend '${text}'`, ...says],
})

const badOption = (option: string, value: string, ...says: (string | RegExp)[]): Wrong => ({
  what: `${option} ${value}`,
  argv: ['service', 'add', 'tcp://10.89.0.100:8080', option, value],
  code: 2,
  says: [value, ...says],
})

const badWeight = (value: string, ...says: string[]): Wrong => ({
  what: `--weight ${value}`,
  argv: ['backend', 'set', WEB, RS1, '--weight', value],
  code: 2,
  says: [value, 'weight', ...says],
})

const wrongUse = (what: string, argv: readonly string[], ...says: (string | RegExp)[]): Wrong => ({
  what,
  argv,
  code: 2,
  says,
})

const badDeadline = (value: string): Wrong => ({
  what: `--deadline '${value}'`,
  argv: ['backend', 'drain', WEB, RS1, '--deadline', value],
  code: 2,
  says: [`--deadline '${value}': is not a span of time`, 'such as 90s, 10m or 1h30m'],
})

export const BAD_WORDS: readonly Wrong[] = [
  badDeadline('soon'),
  badDeadline('-5s'),
  badDeadline('1.5m'),
  wrongUse('an unknown fate of flows', ['backend', 'rm', WEB, RS1, '--flows', 'kill'], "'kill'", 'keep, cut, move'),
  badService('foo', 'is not of the form PROTOCOL://VIP:PORT', 'write tcp://192.0.2.10:80'),
  badService('', 'is not of the form'),
  badService('tcp://10.89.0.100:80/x', /port|form/),
  badService('http://10.89.0.100:80', "protocol 'http' is not balanced", 'choose tcp or udp'),
  badService('tcp://10.89.0.100', 'has no port', 'write tcp://10.89.0.100:80'),
  badService('tcp://10.89.0.100:', 'has no port'),
  badService('tcp://10.89.0.100:0', 'port 0 is reserved', 'choose a port from 1 to 65535'),
  badService('tcp://10.89.0.100:70000', 'port 70000 exceeds 65535', 'choose a port from 1 to 65535'),
  badService('tcp://10.89.0.100:abc', "'abc' is not a port number", 'choose a port from 1 to 65535'),
  badService('tcp://10.89.0.100:-1', /port/),
  badService('tcp://10.89.0.100:80-80', 'the range 80-80 is of one port', 'write tcp://10.89.0.100:80'),
  badService('udp://10.89.0.100:90-80', 'the range 90-80 runs backwards', 'write udp://10.89.0.100:80-90'),
  badService('tcp://10.89.0.100:0-80', 'port 0 is reserved', 'choose a port from 1 to 65535'),
  badService('tcp://10.89.0.100:80-70000', 'port 70000 exceeds 65535', 'choose a port from 1 to 65535'),
  badService('tcp://10.89.0.100:80-', "'' is not a port number", 'choose a port from 1 to 65535'),
  badService('tcp://10.89.0.100:80-*', "'*' is not a port number", 'choose a port from 1 to 65535'),
  badService('tcp://2001:db8::1', 'is not of the form', 'write tcp://[2001:db8::1]:80'),
  badService('tcp://[fe80::1]:80', 'link-local', 'such as 2001:db8::10'),
  badService('tcp://[2001:db8::g]:80', 'is not an IPv6 address', 'such as 2001:db8::10'),
  badService('tcp://10.89.0.300:80', "'10.89.0.300' is neither an IPv4 nor an IPv6 address", 'give a unicast address'),
  badService('tcp://010.89.0.1:80', "'010.89.0.1' is neither an IPv4 nor an IPv6 address"),
  badService('tcp://10.89.0:80', 'is neither an IPv4 nor an IPv6 address'),
  badService('tcp://www.example.org:80', 'is neither an IPv4 nor an IPv6 address'),
  badService('tcp://0.0.0.0:80', '0.0.0.0/8'),
  badService('tcp://127.0.0.1:80', 'loopback'),
  badService('tcp://224.0.0.1:80', 'multicast'),
  badService('tcp://255.255.255.255:80', 'broadcast'),
  badBackend('10.89.0.21:*', "'*' is no backend's port", 'leave the port out: 10.89.0.21'),
  wrongUse(
    'a port for a backend of several',
    ['backend', 'set', 'tcp://10.89.0.100:8000-8099', '10.89.0.21:8000'],
    "backend '10.89.0.21:8000': the service has ports 8000-8099, and direct server return keeps the packet's port",
    'leave the port out: 10.89.0.21',
  ),
  wrongUse(
    'one-packet scheduling of TCP',
    ['service', 'add', 'tcp://10.89.0.100:*', '--ops'],
    'service tcp://10.89.0.100:*: one-packet scheduling would spread the segments of one TCP connection over backends',
    'leave ops out, or choose a udp:// service',
  ),
  badBackend('10.89.0.256', 'is neither an IPv4 nor an IPv6 address', 'give a unicast address'),
  badBackend('2001:db8::1', 'IPv6', 'its service is IPv4'),
  badBackend('10.89.0.22:81', "differs from the service's 80", 'leave the port out'),
  badBackend('10.89.0.22:70000', 'port 70000 exceeds 65535'),
  badBackend('10.89.0.22:', /port/),
  badBackend('rs2', 'is neither an IPv4 nor an IPv6 address'),
  badBackend('127.0.0.1', 'loopback'),
  badOption('--scheduler', 'lc', '--scheduler', 'choose one of: rr, wrr, mh, sh'),
  badOption('--forward', 'nat', '--forward', 'choose one of: dsr'),
  badOption('--hash', 'destination', '--hash', 'choose one of: source, source-port'),
  badOption('--ring-size', '1000', 'ring size 1000 is not a prime', 'choose a prime'),
  badOption('--ring-size', '1048583', 'exceeds 1048573', 'choose a smaller prime'),
  badOption('--ring-size', '-7', '--ring-size'),
  badOption('--ring-size', '10.5', '--ring-size', 'is not a whole number'),
  badOption('--seed', 'xyz', '--seed', 'is not a 64-bit number', '0x0123456789abcdef'),
  badOption('--seed', '0x10000000000000000', 'is not a 64-bit number'),
  badOption('--seed', '18446744073709551616', 'is not a 64-bit number'),
  wrongUse(
    'an unknown option',
    ['service', 'add', WEB, '--sheduler', 'rr'],
    "unknown option '--sheduler'",
    'xlb --help',
  ),
  badWeight('-1'),
  badWeight('1.5', 'is not a whole number'),
  badWeight('65536', '0 to 65535'),
  badWeight('abc', 'is not a whole number'),
  badWeight('', 'is not a whole number'),
  wrongUse('an option without its value', ['backend', 'set', WEB, RS1, '--weight'], '--weight', 'argument missing'),
  wrongUse('an unknown verb', ['frobnicate'], "unknown command 'frobnicate'", 'xlb --help'),
  wrongUse('an unknown verb of service', ['service', 'change', WEB], "unknown command 'change'"),
  wrongUse('no verb', [], 'no verb was given', 'xlb --help'),
  wrongUse('service without a verb', ['service'], 'xlb --help'),
  wrongUse('service add without a service', ['service', 'add'], "missing required argument 'service'"),
  wrongUse('backend set without an address', ['backend', 'set', WEB], "missing required argument 'address'"),
  wrongUse('restore without a file', ['restore'], "missing required argument 'file'"),
  wrongUse('too many arguments', ['list', WEB, 'x'], 'too many arguments'),
  wrongUse('detach without an argument', ['detach'], 'name one interface, or --all'),
  wrongUse('detach with an interface and --all', ['detach', 'eth0', '--all'], 'name one interface, or --all'),
  wrongUse('attach without an interface', ['attach'], "missing required argument 'interface'"),
  wrongUse('an unknown interface', ['attach', 'nosuch'], 'there is no interface nosuch', /name one of: .*eth0/),
  wrongUse('an unknown mode', ['attach', 'eth0', '--mode', 'fast'], "--mode 'fast'", 'auto, native, generic'),
  wrongUse(
    'a capacity that is no number',
    ['attach', 'eth0', '--flows', 'many'],
    "--flows 'many'",
    'is not a whole number',
  ),
  wrongUse('upgrade with an interface', ['upgrade', 'eth0'], 'too many arguments'),
  wrongUse('upgrade with an unknown option', ['upgrade', '--force'], "unknown option '--force'", 'xlb --help'),
  wrongUse('list of a bad service', ['list', 'tcp://10.89.0.100'], 'has no port'),
  wrongUse('list with --stats and --rate', ['list', '--stats', '--rate'], '--stats and --rate exclude each other'),
  wrongUse('an instance with a slash', ['list', '--instance', 'a/b'], "instance 'a/b'", '1 to 64'),
  wrongUse('connections of a bad service', ['connections', 'tcp://10.89.0.100'], 'has no port'),
  wrongUse(
    'connections in an unknown state',
    ['connections', '--state', 'ESTABLISHED'],
    "--state 'ESTABLISHED'",
    'half-open, adopted, established',
  ),
  wrongUse(
    'connections of a bad source',
    ['connections', '--source', '10.89.0.0/33'],
    "source '10.89.0.0/33'",
    '0 to 32',
  ),
  wrongUse(
    'connections of a bad backend',
    ['connections', '--backend', 'rs1'],
    "'rs1' is neither an IPv4 nor an IPv6 address",
  ),
  wrongUse(
    'connections of a backend with a port and no service',
    ['connections', '--backend', '10.89.0.21:80'],
    "backend '10.89.0.21:80'",
    'no service is named',
    'leave the port out',
  ),
  wrongUse(
    'connections of a backend at another port',
    ['connections', WEB, '--backend', '10.89.0.21:81'],
    "differs from the service's 80",
  ),
  wrongUse('connections in an unknown format', ['connections', '--format', 'yaml'], "--format 'yaml'", 'ipvsadm'),
  wrongUse('trace without a destination', ['trace', 'tcp', '10.89.0.1:40000'], "missing required argument 'vip:port'"),
  wrongUse('trace of an unknown protocol', ['trace', 'icmp', '10.89.0.1:1', '10.89.0.100:80'], "'icmp'", 'tcp, udp'),
  wrongUse(
    'trace from a source without a port',
    ['trace', 'tcp', '10.89.0.1', '10.89.0.100:80'],
    "source '10.89.0.1'",
    'write 198.51.100.7:40000',
  ),
  wrongUse(
    'trace to a port out of range',
    ['trace', 'tcp', '10.89.0.1:1', '10.89.0.100:70000'],
    "destination '10.89.0.100:70000'",
    'port 70000 exceeds 65535',
  ),
  wrongUse('trace of a SYN over UDP', ['trace', 'udp', '10.89.0.1:1', '10.89.0.100:53', '--syn'], '--syn', 'leave'),
]
