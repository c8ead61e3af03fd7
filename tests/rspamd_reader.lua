-- Reads messages as rspamd does. In: a line with the length, and so many octets. Out: a line of JSON.
local auth_results = require "lua_auth_results"
local lua_util = require "lua_util"
local rspamd_task = require "rspamd_task"
local rspamd_util = require "rspamd_util"
local ucl = require "ucl"

local function add_addresses(found, list)
  for _, one in ipairs(list or {}) do
    found[#found + 1] = one.addr
  end
end

-- Elements as rspamd reads them in a seal (arc.lua): between semicolons.
local function elements(parts)
  local found = {}
  for at = 2, #parts do
    found[#found + 1] = auth_results.parse_ar_element(lua_util.str_trim(parts[at])) or {}
  end
  return found
end

local function read(task)
  local answer = { authors = {}, results = {}, received_spf = {} }
  -- By the message's own author, and by each field's text.
  add_addresses(answer.authors, task:get_from('mime'))
  for _, field in ipairs(task:get_header_full('From') or {}) do
    add_addresses(answer.authors, rspamd_util.parse_mail_address(field.value, task:get_mempool()))
  end
  for _, field in ipairs(task:get_header_full('Authentication-Results') or {}) do
    local parts = lua_util.str_split(field.decoded, ';')
    answer.results[#answer.results + 1] = { id = parts[1] or '', elements = elements(parts) }
  end
  for _, field in ipairs(task:get_header_full('Received-SPF') or {}) do
    answer.received_spf[#answer.received_spf + 1] = field.decoded
  end
  return answer
end

for line in io.lines() do
  local loaded, task = rspamd_task.load_from_string(io.read(tonumber(line)), rspamd_config)
  assert(loaded and task:process_message(), 'not read')
  io.write(ucl.to_format(read(task), 'json-compact'), '\n')
  io.flush()
  task:destroy()
end
