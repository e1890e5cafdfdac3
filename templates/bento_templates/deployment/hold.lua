-- A request that comes while its backend has no server waits for one, for as long as it would have waited anyway.
--
-- A server counts as up from the moment when its name resolves, and may still be loading what it serves: only one
-- that has answered its check is worth the wait.

local is_ready = {}

core.register_task(function()
  while true do
    for name, backend in pairs(core.backends) do
      local found = false
      for _, server in pairs(backend.servers) do
        local stats = server:get_stats()
        if stats.check_status == "L7OK" and string.sub(stats.status, 1, 2) == "UP" then
          found = true
          break
        end
      end
      is_ready[name] = found
    end
    core.msleep(50)
  end
end)

core.register_action("hold", { "http-req" }, function(txn, backend, milliseconds)
  local waited = 0
  while not (is_ready[backend] and txn.f:nbsrv(backend) > 0) and waited < tonumber(milliseconds) do
    core.msleep(50)
    waited = waited + 50
  end
end, 2)
