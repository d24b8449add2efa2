-- SPDX-License-Identifier: Apache-2.0
-- Notice a loss of data. Answers {'OK'}, or LOST while only holders may register.

if waiting > 0 then return LOST end
return {'OK'}
