-- Numbers of an obligation are finite: NaN is above every number here, and passed as more than 0.
alter table grid_obligations
    add constraint finite_numbers check (
        mw < 'infinity' and notice_s < 'infinity' and duration_s < 'infinity' and recovery_s < 'infinity'
        and penalty_usd_per_mwh >= 0 and penalty_usd_per_mwh < 'infinity');
