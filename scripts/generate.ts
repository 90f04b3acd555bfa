// SPDX-License-Identifier: Apache-2.0
// Writes src/dataplane/layout.gen.ts from bpf/xlb.h: compiles every struct and enum of the header, reads their BTF, and prints
// constants and codecs. `npm run generate` after each change of the header; CI demands that it changes nothing.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

interface BtfType {
  id: number
  kind: string
  name: string
  size?: number
  type_id?: number
  nr_elems?: number
  values?: { name: string; val: number }[]
  members?: { name: string; type_id: number; bits_offset: number }[]
}

const root = join(import.meta.dirname, '..')
const header = readFileSync(join(root, 'bpf/xlb.h'), 'utf8')

const readBtf = (names: readonly string[]): BtfType[] => {
  const folder = mkdtempSync(join(tmpdir(), 'xlb-layout-'))
  try {
    // BTF leaves out what nothing uses: one struct uses everything.
    const uses = names.map((name, index) => `\t${name} used_${index};`).join('\n')
    writeFileSync(join(folder, 'layout.c'), `#include "xlb.h"\nstruct layout {\n${uses}\n} layout;\n`)
    const include = `/usr/include/${execFileSync('gcc', ['-print-multiarch'], { encoding: 'utf8' }).trim()}`
    const object = join(folder, 'layout.o')
    execFileSync('clang', [
      '-O2',
      '-g',
      '-target',
      'bpf',
      '-mcpu=v3',
      `-I${join(root, 'bpf')}`,
      `-I${include}`,
      '-c',
      join(folder, 'layout.c'),
      '-o',
      object,
    ])
    return JSON.parse(execFileSync('bpftool', ['-j', 'btf', 'dump', 'file', object], { encoding: 'utf8' })).types
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const camel = (name: string): string => name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
const pascal = (name: string): string => camel(`_${name}`)

type Shape =
  | { kind: 'number'; bytes: 1 | 2 | 4; bigEndian: boolean }
  | { kind: 'bigint' }
  | { kind: 'bytes' | 'text'; length: number }
  | { kind: 'array'; length: number; bytes: number; element: Shape }
  | { kind: 'struct'; name: string; bytes: number }

const shapeOf = (types: Map<number, BtfType>, id: number): { shape: Shape; bytes: number } => {
  let bigEndian = false
  let type = types.get(id)
  while (type?.kind === 'TYPEDEF' || type?.kind === 'CONST') {
    if (type.name.startsWith('__be')) bigEndian = true
    type = types.get(type.type_id ?? 0)
  }
  if (type?.kind === 'INT') {
    const bytes = type.size ?? 0
    if (bytes === 8) return { shape: { kind: 'bigint' }, bytes }
    if (bytes === 1 || bytes === 2 || bytes === 4) return { shape: { kind: 'number', bytes, bigEndian }, bytes }
  }
  if (type?.kind === 'STRUCT') {
    return { shape: { kind: 'struct', name: type.name, bytes: type.size ?? 0 }, bytes: type.size ?? 0 }
  }
  if (type?.kind === 'ARRAY') {
    const length = type.nr_elems ?? 0
    const element = shapeOf(types, type.type_id ?? 0)
    const bytes = element.bytes * length
    if (element.bytes === 1) {
      return { shape: { kind: types.get(type.type_id ?? 0)?.name === 'char' ? 'text' : 'bytes', length }, bytes }
    }
    return { shape: { kind: 'array', length, bytes: element.bytes, element: element.shape }, bytes }
  }
  throw new Error(`bpf/xlb.h: type ${type?.name ?? id} (${type?.kind}) has no codec; add one to scripts/generate.ts`)
}

const typeText = (shape: Shape): string => {
  switch (shape.kind) {
    case 'number':
      return 'number'
    case 'bigint':
      return 'bigint'
    case 'bytes':
      return 'Uint8Array'
    case 'text':
      return 'string'
    case 'array':
      return `${typeText(shape.element)}[]`
    case 'struct':
      return pascal(shape.name)
  }
}

const endian = (shape: { bytes: number; bigEndian: boolean }): string =>
  shape.bytes === 1 ? '' : `, ${!shape.bigEndian}`

const readText = (shape: Shape, at: string): string => {
  switch (shape.kind) {
    case 'number':
      return `view.getUint${shape.bytes * 8}(${at}${endian(shape)})`
    case 'bigint':
      return `view.getBigUint64(${at}, true)`
    case 'bytes':
      return `readBytes(view, ${at}, ${shape.length})`
    case 'text':
      return `readText(view, ${at}, ${shape.length})`
    case 'array':
      return `Array.from({ length: ${shape.length} }, (_, i) => ${readText(shape.element, `${at} + i * ${shape.bytes}`)})`
    case 'struct':
      return `${pascal(shape.name)}.read(view, ${at})`
  }
}

const writeText = (shape: Shape, at: string, value: string): string => {
  switch (shape.kind) {
    case 'number':
      return `view.setUint${shape.bytes * 8}(${at}, ${value}${endian(shape)})`
    case 'bigint':
      return `view.setBigUint64(${at}, ${value}, true)`
    case 'bytes':
      return `writeBytes(view, ${at}, ${shape.length}, ${value})`
    case 'text':
      return `writeText(view, ${at}, ${shape.length}, ${value})`
    case 'array':
      return `${value}.forEach((element, i) => { ${writeText(shape.element, `${at} + i * ${shape.bytes}`, 'element')} })`
    case 'struct':
      return `${pascal(shape.name)}.write(view, ${at}, ${value})`
  }
}

const structText = (types: Map<number, BtfType>, type: BtfType): string => {
  const fields = (type.members ?? []).map((member) => ({
    name: member.name,
    // The codec converts byte order, so that the suffix has no meaning behind it.
    field: camel(member.name.replace(/_be$/, '')),
    offset: member.bits_offset / 8,
    shape: shapeOf(types, member.type_id).shape,
  }))
  const used = fields.filter((field) => !field.name.startsWith('reserved'))
  const name = pascal(type.name)
  return [
    `/** struct ${type.name}, ${type.size} octets. */`,
    `export interface ${name} {`,
    ...used.map((field) => `  ${field.field}: ${typeText(field.shape)}`),
    '}',
    `export const ${name} = {`,
    `  size: ${type.size},`,
    `  offset: { ${used.map((field) => `${field.field}: ${field.offset}`).join(', ')} },`,
    `  read: (view: DataView, at: number): ${name} => ({`,
    ...used.map((field) => `    ${field.field}: ${readText(field.shape, `at + ${field.offset}`)},`),
    '  }),',
    `  write: (view: DataView, at: number, value: ${name}): void => {`,
    ...used.map((field) => `    ${writeText(field.shape, `at + ${field.offset}`, `value.${field.field}`)}`),
    '  },',
    '} as const',
  ].join('\n')
}

const enumText = (type: BtfType): string =>
  [
    `/** enum ${type.name} */`,
    `export const ${pascal(type.name)} = {`,
    ...(type.values ?? []).map((value) => `  ${value.name}: ${value.val},`),
    '} as const',
  ].join('\n')

const preamble = `// SPDX-License-Identifier: Apache-2.0
// Generated by scripts/generate.ts from the BTF of bpf/xlb.h: do not edit. Offsets and sizes in octets; numbers are in host
// order on both sides (the codec swaps what the header marks __be).

const readBytes = (view: DataView, at: number, length: number): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset + at, length).slice()
const writeBytes = (view: DataView, at: number, length: number, value: Uint8Array): void => {
  const target = new Uint8Array(view.buffer, view.byteOffset + at, length)
  target.fill(0)
  target.set(value.subarray(0, length))
}
const readText = (view: DataView, at: number, length: number): string => {
  const bytes = readBytes(view, at, length)
  const end = bytes.indexOf(0)
  return String.fromCharCode(...bytes.subarray(0, end < 0 ? length : end))
}
const writeText = (view: DataView, at: number, length: number, value: string): void =>
  writeBytes(view, at, length, Uint8Array.from(value, (letter) => letter.charCodeAt(0)).subarray(0, length - 1))
`

const names = [...header.matchAll(/^(struct|enum) (\w+) \{/gm)].map((match) => `${match[1]} ${match[2]}`)
const types = new Map(readBtf(names).map((type) => [type.id, type]))
const parts = names.map((wanted) => {
  const [kind, name] = wanted.split(' ')
  const type = [...types.values()].find((each) => each.name === name && each.kind === kind?.toUpperCase())
  if (type === undefined) throw new Error(`bpf/xlb.h: ${wanted} is not in the BTF`)
  return type.kind === 'ENUM' ? enumText(type) : structText(types, type)
})
writeFileSync(join(root, 'src/dataplane/layout.gen.ts'), `${[preamble.trimEnd(), ...parts].join('\n\n')}\n`)
