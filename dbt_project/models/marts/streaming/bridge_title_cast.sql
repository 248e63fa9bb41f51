with titles as (

    select * from {{ ref('dim_streaming_titles') }}

),

named as (

    select
        title_id,
        unnest(cast_names) as actor,
        generate_subscripts(cast_names, 1) as billing
    from titles

),

final as (

    select
        title_id,
        actor,
        cast(min(billing) as integer) as billing
    from named
    group by title_id, actor

)

select * from final
