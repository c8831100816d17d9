-- Tokens are checked by hcp_api alone; who only shows what stands needs neither digests nor accounts.
revoke select on operators from hcp_control;
