# SPDX-License-Identifier: Apache-2.0
"""`make chaos`: load on the real cluster while its parts are killed, and an account of every request."""
