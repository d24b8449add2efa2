# SPDX-License-Identifier: Apache-2.0
"""What tests share: builders, fakes and servers of their own."""
