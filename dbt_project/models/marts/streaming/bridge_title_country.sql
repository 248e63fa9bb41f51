with titles as (

    select * from {{ ref('dim_streaming_titles') }}

),

named as (

    select
        title_id,
        unnest(countries) as country
    from titles

),

final as (

    select distinct
        title_id,
        country
    from named

)

select * from final
