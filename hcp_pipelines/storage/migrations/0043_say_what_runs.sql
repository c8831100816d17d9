-- What is to run on a desired row's devices, as a gateway hands it to them: what is not said takes the wire's own defaults. All of it is
-- what a gateway takes (hcp_pipelines/wire/work.py), so that no row can spoil the command in which it leaves.
alter table desired_state
    add column model text not null default '' check (length(model) <= 100 and model ~ '^[ -~]*$'),
    add column weights_gib double precision not null default 0 check (weights_gib between 0 and 10000),
    add column gpus_each smallint not null default 1 check (gpus_each between 1 and 8),  -- over how many GPUs of a node one copy goes
    add column load text not null default 'cold' check (load in ('cold', 'streamed')),
    add column checkpoint text not null default '' check (length(checkpoint) <= 500 and checkpoint ~ '^[ -~]*$');  -- empty: none
grant insert (model, weights_gib, gpus_each, load, checkpoint) on desired_state to hcp_scheduler;
