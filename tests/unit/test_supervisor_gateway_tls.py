"""Certificates of a platform's own gateways: an authority of before signs the roles that are new, and the others stay."""

from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor.gateway_tls import gateway_tls
from hcp_pipelines.wire.certificates import ROLES, check_certificate
from hcp_pipelines.wire.channels import client_tls


def test_a_role_that_an_authority_of_before_did_not_know_is_signed_and_the_others_stay(tmp_path):
    settings = Settings(state_dir=tmp_path)
    gateway_tls(settings)
    own = {role: client_tls(settings, role) for role in ROLES}
    before = own["allocator"].certificate.read_bytes()
    own["collector"].certificate.unlink()
    own["collector"].key.unlink()
    gateway_tls(settings)
    for files in own.values():
        check_certificate(files.certificate, files.gateways_ca)
    assert own["allocator"].certificate.read_bytes() == before
