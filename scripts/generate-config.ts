// SPDX-License-Identifier: Apache-2.0
// Writes packaging/xlb.schema.json and the tables of docs/configuration.md from src/config/schema.ts. `npm run generate` after each
// change of the schema; CI demands that it changes nothing.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { jsonSchema } from '../src/config/json-schema.ts'
import { withTables } from '../src/config/reference.ts'

const root = join(import.meta.dirname, '..')
const page = join(root, 'docs/configuration.md')

writeFileSync(join(root, 'packaging/xlb.schema.json'), `${JSON.stringify(jsonSchema(), null, 2)}\n`)
writeFileSync(page, withTables(readFileSync(page, 'utf8')))
